"""Keys that only root may read reach the role that needs them, and nothing else does."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pluq.config import Home
from pluq.config.keys import KeyReader
from pluq.supervisor import keys, privileges
from pluq.supervisor.sockets import bind_unix

IDS = Home("/nonexistent").ids()
needs_users = pytest.mark.skipif(IDS.single, reason="needs root and the qmail users")


@pytest.fixture
def home() -> Iterator[Home]:
    """A home that every user can reach, with the role "keys" running."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        found = Home(folder)
        for name in ("control", "run", "elsewhere"):
            os.mkdir(f"{folder}/{name}", 0o755)
        sock = bind_unix(f"{found.run}/keys", socket.SOCK_SEQPACKET, 0o666, 0)
        pid = os.fork()
        if pid == 0:
            try:
                keys.run(found, IDS, sock)
            finally:
                os._exit(1)
        sock.close()
        yield found
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def as_user(name: str, work: Callable[[], bytes]) -> bytes:
    """Return what `work` returns in a process that has become this user; the name of its exception if it raises."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            privileges.become(privileges.user_identity(IDS.uid[name], IDS.gid["nofiles"]))
            os.write(writer, work())
        except BaseException as error:
            os.write(writer, type(error).__name__.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as pipe:
        return pipe.read()


def secret(path: str) -> str:
    Path(path).write_bytes(b"key")
    os.chmod(path, 0o600)
    return path


@needs_users
def test_a_key_below_control_reaches_the_role_that_may_not_read_it(home: Home) -> None:
    path = secret(home.control("servercert.pem"))
    assert as_user("qmaild", lambda: Path(path).read_bytes()) == b"PermissionError"
    assert as_user("qmaild", lambda: KeyReader(home)(path)) == b"key"


@needs_users
def test_a_file_elsewhere_is_handed_out_only_if_the_configuration_names_it(home: Home) -> None:
    path = secret(f"{home.path}/elsewhere/key.pem")
    assert as_user("qmaild", lambda: KeyReader(home)(path)) == b"PermissionError"
    Path(home.control("pluq.toml")).write_text('[profile.mx]\ntls.key = "elsewhere/key.pem"\n')
    assert as_user("qmaild", lambda: KeyReader(home)(path)) == b"key"


@needs_users
@pytest.mark.parametrize("path", ["{control}/../elsewhere/key.pem", "/etc/shadow", "{control}", ""])
def test_no_other_path_is_opened(home: Home, path: str) -> None:
    secret(f"{home.path}/elsewhere/key.pem")
    wanted = path.format(control=home.control_dir)
    got = as_user("qmaild", lambda: KeyReader(home)(wanted))
    assert got in (b"PermissionError", b"IsADirectoryError", b"FileNotFoundError", b"OSError")


@needs_users
def test_other_users_get_nothing(home: Home) -> None:
    path = secret(home.control("servercert.pem"))
    assert as_user("qmails", lambda: KeyReader(home)(path)) == b"PermissionError"


@needs_users
def test_strangers_who_say_nothing_keep_nobody_waiting(home: Home) -> None:
    def ask() -> bytes:
        # Refused before it asked: the silent one, and the eight before it, cost no patience.
        for _ in range(8):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(keys.SECONDS / 4)
                sock.connect(f"{home.run}/keys")
                assert sock.recv(64) == b"13"
        return b"told at once"

    assert as_user("alias", ask) == b"told at once"


@needs_users
def test_a_fifo_does_not_stop_the_keeper(home: Home) -> None:
    os.mkfifo(home.control("pipe"), 0o600)
    assert as_user("qmaild", lambda: KeyReader(home)(home.control("pipe"))) == b"OSError"
    path = secret(home.control("servercert.pem"))
    assert as_user("qmaild", lambda: KeyReader(home)(path)) == b"key"


@needs_users
def test_a_check_reads_keys_as_the_stack_will_though_none_runs() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        os.mkdir(f"{folder}/control", 0o755)
        key = Path(folder, "control", "servercert.pem")
        key.write_bytes(b"secret")
        key.chmod(0o600)
        found = Home(folder)
        with keys.answering(found, IDS) as path:
            assert as_user("qmaild", lambda: KeyReader(found, path)(str(key))) == b"secret"
            assert as_user("alias", lambda: KeyReader(found, path)(str(key))) == b"PermissionError"


def test_without_the_role_the_first_refusal_stands(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KeyReader(Home(str(tmp_path)))(str(tmp_path / "missing"))
