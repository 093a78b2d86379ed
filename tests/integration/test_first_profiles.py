"""Each profile of `pluq init` takes mail at once: the home as it was made, but for its ports."""

from __future__ import annotations

import os
import re
import smtplib
import ssl
import subprocess
from pathlib import Path

import pytest

from pluq.testing.dns import FakeDns
from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.stack import BIN, PATIENCE, Stack, free_port, wait_until

pytestmark = pytest.mark.integration

PASSWORD = "correct horse 9"


def init(folder: Path, *words: str) -> None:
    command = [str(BIN / "pluq"), "init", "--home", f"{folder}/home", "--single-user", "--me", "mail.example.org"]
    subprocess.run([*command, "--domain", "example.org", *words], check=True, capture_output=True, timeout=120)


class Ports:
    """Free ports in the place of those that only root may have, and that others listen on."""

    def __init__(self, folder: Path) -> None:
        self.of: dict[int, int] = {}
        path = folder / "home/control/pluq.toml"
        path.write_text(re.sub(r'listen += \["[0-9.]+:([0-9]+)".*', self._moved, path.read_text()))

    def _moved(self, found: re.Match[str]) -> str:
        port = self.of[int(found[1])] = free_port()
        return f'listen = ["127.0.0.1:{port}"]'


def stack_of(folder: Path, port: int) -> Stack:
    stack = Stack(folder, single=True)
    stack.listens_itself = True
    stack.port = port
    return stack


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_mx_and_submission(tmp_path):
    pytest.importorskip("spf")
    pytest.importorskip("scramp")
    init(tmp_path, "--profile", "mx", "--profile", "submission")
    ports = Ports(tmp_path)
    stack = stack_of(tmp_path, ports.of[25])
    stack.run("pluq", "auth", "passwd", "joe", input=f"{PASSWORD}\n".encode())
    with FakeDns({}) as server, SmtpPeer() as peer:
        stack.control("smtproutes", f":127.0.0.1:{peer.port}")
        stack.start({"PLUQ_DNS_SERVER": server.text})
        try:
            stack.send("from outside")
            stack.wait_mail("from outside")
            submit(ports.of[587], "starttls", "joe@example.org")
            submit(ports.of[465], "implicit", "someone@far.example")
            stack.wait_mail("starttls")
            wait_until(lambda: any(one.messages for one in peer.sessions), stack.told)
        finally:
            stack.stop()
    (sent,) = [text for one in peer.sessions for text in one.messages]
    assert b"\nDKIM-Signature:" in b"\n" + sent
    assert b"d=example.org" in sent


def submit(port: int, subject: str, to: str) -> None:
    """Submit a message with a login, TLS from the start where the subject says so."""
    if subject == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port, timeout=PATIENCE, context=unverified())
    else:
        client = smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE)
    with client:
        if subject != "implicit":
            with pytest.raises(smtplib.SMTPResponseException):
                client.sendmail("joe@example.org", [to], "Subject: in clear\n\nhi\n")
            client.starttls(context=unverified())
        client.login("joe", PASSWORD)
        client.sendmail("joe@example.org", [to], f"From: joe@example.org\nSubject: {subject}\n\nhi\n")


def test_null(tmp_path):
    with SmtpPeer() as peer:
        init(tmp_path, "--profile", "null", "--smarthost", f"127.0.0.1:{peer.port}")
        stack = stack_of(tmp_path, Ports(tmp_path).of[25]).start()
        try:
            stack.send("by port", to="someone@far.example")
            stack.run("sendmail", "someone@far.example", input=b"Subject: by sendmail\n\nhi\n")
            wait_until(lambda: sum(len(one.messages) for one in peer.sessions) == 2, stack.told)
        finally:
            stack.stop()


def test_mini(tmp_path):
    hub_folder = tmp_path / "hub"
    hub_folder.mkdir()
    port, qmqp = free_port(), free_port()
    hub = stack_of(hub_folder, port)
    hub.control(
        "pluq.toml",
        f'[profile.mx]\nlisten = ["127.0.0.1:{port}"]\n[profile.qmqp]\nprotocol = "qmqp"\nlisten = ["127.0.0.1:{qmqp}"]',
    )
    hub.control("tcp.qmqp", "127.:allow\n:deny")
    init(tmp_path, "--profile", "mini", "--server", "127.0.0.1")
    hub.start()
    try:
        subprocess.run(
            [f"{tmp_path}/home/bin/sendmail", "joe@example.org"],
            input=b"Subject: without a queue\n\nhi\n",
            env={**os.environ, "PLUQ_HOME": f"{tmp_path}/home", "PORT_QMQP": str(qmqp)},
            check=True,
            timeout=PATIENCE,
        )
        hub.wait_mail("without a queue")
    finally:
        hub.stop()
