"""Resident QMTP and QMQP profiles of a whole stack: real clients, rules, limits, a hub that goes down and comes back."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from pluq.testing.stack import BIN, Stack, free_port, wait_until
from pluq.wire.qmqp import encode_request
from pluq.wire.qmtp import Answers, encode_package

pytestmark = pytest.mark.integration

PATIENCE = 60.0
SITE = """
[profile.mx]
listen = ["127.0.0.1:{smtp}"]

[profile.qmtp]
protocol = "qmtp"
listen = ["127.0.0.1:{qmtp}"]

[profile.qmqp]
protocol = "qmqp"
listen = ["127.0.0.1:{qmqp}"]
"""
MESSAGE = b"Subject: %b\n\nhello\n"


class Hub(Stack):
    """A stack with a profile for each protocol."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.qmtp, self.qmqp = free_port(), free_port()
        self.control("pluq.toml", SITE.format(smtp=self.port, qmtp=self.qmtp, qmqp=self.qmqp))
        self.control("tcp.qmqp", "127.0.0.1:allow\n:deny")
        self.listens_itself = True


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="pluq-test."))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def hub(folder):
    (folder / "hub").mkdir()
    made = Hub(folder / "hub")
    yield made
    if made.runs:
        made.stop()


def talk(port: int, data: bytes, source: str = "127.0.0.1") -> bytes:
    """Send everything, and return all that is answered until the server or we have said all."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0)) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as answers:
            return answers.read()


def verdicts(said: bytes) -> str:
    return "".join(answer.verdict for answer in Answers().feed(said))


def package(subject: bytes, *recipients: bytes) -> bytes:
    return encode_package(MESSAGE % subject, b"sender@example.net", recipients)


def test_qmtp_takes_package_after_package_and_judges_each_recipient(hub):
    hub.start()
    said = talk(
        hub.qmtp, package(b"one", b"joe@example.org", b"ann@elsewhere.example") + package(b"two", b"joe@example.org")
    )
    assert verdicts(said) == "KDK"
    hub.wait_mail("one", "two")
    text = next(path.read_text() for path in (hub.maildir() / "new").iterdir() if "Subject: one" in path.read_text())
    assert "Received: from unknown (127.0.0.1)\n  by mail.example.org with QMTP; " in text


def test_serialmail_empties_a_maildir_by_qmtp(hub, folder):
    """PLUQ_SERIALMAIL is a folder with maildirserial and serialqmtp of serialmail, a client that is not ours."""
    serialmail = os.environ.get("PLUQ_SERIALMAIL", "")
    if not os.path.exists(f"{serialmail}/serialqmtp"):
        pytest.skip("PLUQ_SERIALMAIL names no folder with serialqmtp")
    hub.start()
    link = folder / "link"
    for name in ("cur", "new", "tmp"):
        (link / name).mkdir(parents=True)
    for subject in ("first", "second"):
        text = f"Return-Path: <sender@example.net>\nDelivered-To: link-joe@example.org\nSubject: {subject}\n\nhello\n"
        (link / "new" / f"1.{subject}.host").write_text(text)
        os.utime(link / "new" / f"1.{subject}.host", (1, time.time() - 60))  # it leaves the newest alone
    collect = [f"{serialmail}/maildirserial", "-b", "-t", "1209600", "--", str(link), "link-"]
    client = ["tcpclient", "-RHl0", "--", "127.0.0.1", str(hub.qmtp), f"{serialmail}/serialqmtp", "link-"]
    said = subprocess.run([*collect, *client], capture_output=True, text=True, timeout=PATIENCE, check=True).stderr
    assert said.count("succeeded") == 2, said
    hub.wait_mail("first", "second")
    assert not list((link / "new").iterdir())


def test_rules_of_qmtp_let_relay_and_limit_the_size(hub):
    hub.control("tcp.qmtp", '127.0.0.2:allow,RELAYCLIENT="",DATABYTES="10"\n127.0.0.3:deny')
    hub.start()
    assert verdicts(talk(hub.qmtp, package(b"too big", b"joe@example.org"), "127.0.0.2")) == "D"
    assert talk(hub.qmtp, b"", "127.0.0.3") == b""
    relayed = encode_package(b"x\n", b"s@example.net", [b"joe@elsewhere.example"])
    assert verdicts(talk(hub.qmtp, relayed, "127.0.0.2")) == "K"


def test_whoever_breaks_the_protocol_is_left_without_a_word_and_logged(hub):
    hub.start()
    assert talk(hub.qmtp, b"EHLO x\r\n") == b""
    wait_until(lambda: "tcpserver: end 1 status 25600\n" in hub.log.read_text(), "exit code 100 in the log")


def test_a_broken_package_leaves_nothing_in_the_queue(hub):
    hub.start()
    assert talk(hub.qmtp, package(b"half", b"joe@example.org")[:-8]) == b""
    assert verdicts(talk(hub.qmtp, package(b"whole", b"joe@example.org"))) == "K"
    hub.wait_mail("whole")
    hub.wait_empty()
    assert hub.subjects() == ["whole"]


def test_one_address_may_have_only_so_many_connections(hub):
    hub.control("tcp.qmtp", ':allow,MAXCONNIP="1"')
    hub.start()
    with socket.create_connection(("127.0.0.1", hub.qmtp), PATIENCE) as first:
        wait_until(lambda: "tcpserver: ok 1 " in hub.log.read_text(), "the first connection")
        with socket.create_connection(("127.0.0.1", hub.qmtp), PATIENCE) as second:
            assert second.recv(100) == b""
        first.sendall(package(b"only", b"joe@example.org"))
        assert verdicts(first.recv(4096)) == "K"


def test_term_lets_a_package_end(hub):
    hub.start()
    whole = package(b"late", b"joe@example.org")
    with socket.create_connection(("127.0.0.1", hub.qmtp), PATIENCE) as busy:
        busy.sendall(whole[:20])
        wait_until(lambda: "tcpserver: ok 1 " in hub.log.read_text(), "the connection")
        with socket.create_connection(("127.0.0.1", hub.qmtp), PATIENCE) as idle:
            wait_until(lambda: "tcpserver: ok 2 " in hub.log.read_text(), "the other connection")
            hub.process.terminate()
            assert idle.recv(100) == b""
        busy.sendall(whole[20:])
        assert verdicts(busy.recv(4096)) == "K"
        assert busy.recv(100) == b""
    assert hub.process.wait(PATIENCE) == 0


def test_qmqp_takes_anything_from_our_hosts_and_nothing_from_others(hub):
    hub.start()
    request = encode_request(MESSAGE % b"by qmqp", b"s@example.net", [b"joe@example.org"])
    assert talk(hub.qmqp, request).partition(b":")[2].startswith(b"Kok ")
    assert talk(hub.qmqp, b"", "127.0.0.2") == b""
    hub.wait_mail("by qmqp")


def test_a_qmqp_profile_without_rules_is_a_fault(hub):
    os.unlink(hub.home.control("tcp.qmqp"))
    told = hub.run("pluq", "check", check=False)
    assert told.returncode == 1
    assert (
        f"pluq.toml:9: profile.qmqp: nobody may connect, for there are no rules in {hub.home.control('tcp.qmqp')}"
        in (told.stdout.decode())
    )


def mini_host(folder: Path) -> Path:
    """Make a home without a queue: qmail-qmqpc is its qmail-queue."""
    for name in ("bin", "control"):
        (folder / name).mkdir(parents=True)
    (folder / "control" / "me").write_text("mini.example\n")
    (folder / "control" / "qmqpservers").write_text("127.0.0.1\n")
    os.symlink(BIN / "qmail-qmqpc", folder / "bin" / "qmail-queue")
    return folder


def inject(home: Path, port: int, subject: str) -> int:
    environment = {**os.environ, "PLUQ_HOME": str(home), "PORT_QMQP": str(port)}
    environment.pop("QMAILQUEUE", None)
    text = f"To: joe@example.org\nSubject: {subject}\n\nhello\n".encode()
    command = [str(BIN / "qmail-inject"), "-fsender@mini.example"]
    return subprocess.run(command, input=text, env=environment, check=False, timeout=PATIENCE).returncode


def test_a_mini_host_loses_nothing_while_the_hub_is_down(hub, folder):
    mini = mini_host(folder / "mini")
    hub.start()
    assert inject(mini, hub.qmqp, "first") == 0
    hub.stop()
    assert inject(mini, hub.qmqp, "second") == 111
    hub.start()
    assert inject(mini, hub.qmqp, "second") == 0
    hub.wait_mail("first", "second")
    hub.wait_empty()
    assert sorted(hub.subjects()) == ["first", "second"]


def test_what_the_hub_took_survives_its_crash(hub, folder):
    mini = mini_host(folder / "mini")
    hub.start()
    assert [inject(mini, hub.qmqp, f"m{number}") for number in range(5)] == [0] * 5
    hub.kill()
    hub.start()
    hub.wait_mail(*(f"m{number}" for number in range(5)))
