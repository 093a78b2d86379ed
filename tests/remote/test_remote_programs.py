"""qmail-remote, qmail-rspawn, qmail-tcpto and qmail-tcpok as programs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pluq.testing.dns import FakeDns, Fault
from pluq.testing.remote_home import MESSAGE, WIRE, RemoteHome
from pluq.testing.smtp_peer import SmtpPeer


def run(
    home: RemoteHome, program: str, *arguments: bytes, stdin: bytes = MESSAGE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    code = f"import sys; from pluq.commands.{program} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=stdin,
        env={**os.environ, "PLUQ_HOME": str(home.path), **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


def remote(home: RemoteHome, host: bytes, **environment: str) -> bytes:
    """Run qmail-remote for one recipient; return what it wrote."""
    ended = run(home, "qmail_remote", host, b"s@src.example", b"r@" + host, **environment)
    assert (ended.returncode, ended.stderr) == (0, b"")
    return ended.stdout


def test_a_message_through_a_pipe_arrives(remote_home: RemoteHome) -> None:
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        assert remote(remote_home, b"dst.example") == (
            b"r\0K127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 taken\n\0"
        )
    assert peer.messages == [WIRE]


ZONE = {
    "dst.example": [("MX", (10, "first.dst.example")), ("MX", (20, "second.dst.example"))],
    "second.dst.example": [("A", "127.0.0.1")],
    "first.dst.example": [("A", "127.0.0.1")],
    "null.example": [("MX", (0, "."))],
    "slow.example": Fault.SERVFAIL,
    "alias.example": [("CNAME", "dst.example")],
    "lost.example": [("MX", (10, "gone.example"))],
}


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (b"dst.example", b"DSorry. Although I'm listed as a best-preference MX or A for that host,\nit isn't in my "),
        (b"alias.example", b"DSorry. Although I'm listed as a best-preference MX or A for that host,\nit isn't in my "),
        (b"null.example", b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n\0"),
        (b"lost.example", b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n\0"),
        (b"slow.example", b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n\0"),
        (b"no such\x7f.example", b"DSorry, I couldn't find any host named no?such?.example. (#5.1.2)\n\0"),
        (b"[0.0.0.0]", b"DSorry. Although I'm listed"),
    ],
)
def test_what_dns_says_decides(remote_home: RemoteHome, host: bytes, said: bytes) -> None:
    with FakeDns(ZONE) as server:
        assert remote(remote_home, host, PLUQ_DNS_SERVER=server.text).startswith(said)


def test_too_few_arguments(remote_home: RemoteHome) -> None:
    assert run(remote_home, "qmail_remote", b"host", b"sender").stdout == (
        b"DI (qmail-remote) was invoked improperly. (#5.3.5)\n\0"
    )


def test_a_fault_of_ours_is_no_reason_to_bounce(remote_home: RemoteHome) -> None:
    remote_home.control("smtproutes", ":127.0.0.1:1\n")
    ended = run(remote_home, "qmail_remote", b"h", b"s", b"r", PLUQ_DNS_SERVER="nonsense:port")
    assert ended.returncode == 111


def test_rspawn_runs_the_program_of_the_home(remote_home: RemoteHome) -> None:
    program = remote_home.path / "bin/qmail-remote"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf 'r\\0Ktaken from '; pwd; printf '\\0'\n")
    program.chmod(0o755)
    remote_home.message(123)
    remote_home.tcpto.write_bytes(b"x" * 1024)
    orders = b"\x05" + b"8/123\0s@x\0r@y\0" + b"\x06" + b"8/123\0s@x\0r@y\0"
    ended = run(remote_home, "qmail_rspawn", stdin=orders)
    reports = sorted(ended.stdout[1:].split(b"\0"))
    where = f"Ktaken from {remote_home.path}/queue/mess\n".encode()
    assert reports == [b"", b"\x05" + where, b"\x06" + where]
    assert remote_home.tcpto.read_bytes() == bytes(1024)


def test_rspawn_with_a_program_that_is_not_there(remote_home: RemoteHome) -> None:
    remote_home.message(123)
    ended = run(remote_home, "qmail_rspawn", stdin=b"\x018/123\0s@x\0r@y\0", QMAILREMOTE="/nowhere/remote")
    assert ended.stdout == b"x\x01DUnable to run qmail-remote.\n\0"


def test_rspawn_runs_a_script_without_an_interpreter_line(remote_home: RemoteHome, tmp_path: Path) -> None:
    program = tmp_path / "remote"
    program.write_text("printf 'r\\0Kran\\0'\n")
    program.chmod(0o755)
    remote_home.message(123)
    ended = run(remote_home, "qmail_rspawn", stdin=b"\x018/123\0s@x\0r@y\0", QMAILREMOTE=str(program))
    assert ended.stdout == b"x\x01Kran\0"


def test_rspawn_waits_for_a_program_that_closes_its_output_early(remote_home: RemoteHome, tmp_path: Path) -> None:
    program = tmp_path / "remote"
    program.write_text("#!/bin/sh\nprintf 'r\\0Kok\\0'; exec >&- 2>&-; sleep 0.2; exit 111\n")
    program.chmod(0o755)
    remote_home.message(123)
    ended = run(remote_home, "qmail_rspawn", stdin=b"\x018/123\0s@x\0r@y\0", QMAILREMOTE=str(program))
    assert ended.stdout == b"x\x01ZUnable to run qmail-remote.\n\0"


def test_tcpto_lists_and_tcpok_forgets(remote_home: RemoteHome) -> None:
    when = int(time.time()) - 500
    record = bytes((192, 0, 2, 1, 2, 0, 0, 0)) + when.to_bytes(4, "little") + bytes(4)
    remote_home.tcpto.write_bytes(bytes(16) + record + bytes(32))
    listed = run(remote_home, "qmail_tcpto")
    words = listed.stdout.split()
    assert (listed.returncode, words[:3], words[4:]) == (
        0,
        [b"192.0.2.1", b"timed", b"out"],
        b"seconds ago; # recent timeouts: 2".split(),
    )
    assert 500 <= int(words[3]) < 600
    assert run(remote_home, "qmail_tcpok").returncode == 0
    assert run(remote_home, "qmail_tcpto").stdout == b""
    assert remote_home.tcpto.read_bytes() == bytes(1024)


def test_a_time_in_the_future_is_a_large_number(remote_home: RemoteHome) -> None:
    when = int(time.time()) + 1000
    remote_home.tcpto.write_bytes(bytes((192, 0, 2, 1, 1, 0, 0, 0)) + when.to_bytes(4, "little") + bytes(4))
    assert int(run(remote_home, "qmail_tcpto").stdout.split()[3]) > 1 << 63


def test_errors_are_said_in_qmails_words(remote_home: RemoteHome) -> None:
    remote_home.tcpto.unlink()
    listed = run(remote_home, "qmail_tcpto")
    assert (listed.returncode, listed.stdout) == (111, b"fatal: unable to open tcpto: file does not exist\n")
    forgot = run(remote_home, "qmail_tcpok")
    assert forgot.returncode == 111
    assert forgot.stderr == (
        f"qmail-tcpok: fatal: unable to write {remote_home.path}/queue/lock/tcpto: file does not exist\n".encode()
    )
