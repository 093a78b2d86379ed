"""tls under a listener that encrypts. Debian has none that speaks UCSPI-TLS: the listener here is forty honest lines, with a real TLS layer."""

from __future__ import annotations

import datetime
import os
import select
import smtplib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pluq import Session
from pluq.config import Home
from pluq.hookspecs import Tls as Layer
from pluq.testing.plugins import make_plugin
from pluq.testing.stack import BIN, PATIENCE
from pluq_tls import READY, Tls
from pluq_tls.selfsigned import make_certificate
from pluq_tls.ucspi import Listener, describe, ends, parse_variables

PAIR = make_certificate(["mx.example.org"], 3650, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
ANYBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANYBODY.check_hostname = False
ANYBODY.verify_mode = ssl.CERT_NONE

QUEUE = """#!/bin/sh
cat > {folder}/message
"""


class UcspiTls:
    """A listener for one connection: qmail-smtpd gets the client as 0 and 1, and three descriptors to have it encrypted."""

    def __init__(self, folder: Path, environment: dict[str, str], answers: bool = True) -> None:
        self.certificate = folder / "listener.pem"
        self.certificate.write_bytes(PAIR)
        self.answers = answers
        self.made: list[smtplib.SMTP] = []
        self.client, stranger = socket.socketpair()
        self.stranger = stranger
        self.control, theirs = socket.socketpair()
        reads, self.to_program = os.pipe()
        self.from_program, writes = os.pipe()
        numbers = {"SSLCTLFD": theirs.fileno(), "SSLREADFD": reads, "SSLWRITEFD": writes}
        self.program = subprocess.Popen(
            [str(BIN / "qmail-smtpd")],
            stdin=stranger,
            stdout=stranger,
            env={**os.environ, **environment, **{name: str(fd) for name, fd in numbers.items()}},
            pass_fds=list(numbers.values()),
        )
        theirs.close()
        os.close(reads)
        os.close(writes)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        """Wait to be asked, encrypt, and carry bytes until one side ends."""
        if self.control.recv(1) != b"Y" or not self.answers:
            self.control.close()
            os.close(self.to_program)
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        with context.wrap_socket(self.stranger, server_side=True) as layer:
            cipher = layer.cipher()
            assert cipher is not None
            self.control.sendall(f"SSL_PROTOCOL={layer.version()}\0SSL_CIPHER={cipher[0]}\0\0".encode())
            self.control.close()
            self.carry(layer)

    def carry(self, layer: ssl.SSLSocket) -> None:
        while True:
            if not layer.pending():
                ready = select.select([layer, self.from_program], [], [], PATIENCE)[0]
                if self.from_program in ready:
                    data = os.read(self.from_program, 65536)
                    if not data:
                        os.close(self.to_program)
                        return
                    layer.sendall(data)
                    continue
            try:
                data = layer.recv(65536)
            except OSError:  # the client hung up without a goodbye
                data = b""
            if not data:
                os.close(self.to_program)
                return
            os.write(self.to_program, data)

    def connection(self) -> smtplib.SMTP:
        client = smtplib.SMTP(timeout=PATIENCE)
        self.made.append(client)
        client.sock = self.client
        client._host = "mx.example.org"
        self.client.settimeout(PATIENCE)
        assert client.getreply()[0] == 220
        return client

    def close(self) -> None:
        for client in self.made:
            client.close()
        self.client.close()
        self.stranger.close()
        self.program.wait(PATIENCE)
        self.thread.join(PATIENCE)
        self.control.close()
        os.close(self.from_program)


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """The variables of a listener for a home that has no certificate at all, and a queue that keeps the message."""
    control = tmp_path / "control"
    control.mkdir()
    (control / "me").write_text("mx.example.org\n")
    (control / "rcpthosts").write_text("example.org\n")
    (control / "pluq.toml").write_text('[profile.mx]\nplugins = ["tls"]\n')
    queue = tmp_path / "queue-program"
    queue.write_text(QUEUE.format(folder=tmp_path))
    queue.chmod(0o755)
    return {
        "PLUQ_HOME": str(tmp_path),
        "PLUQ_PROFILE": "mx",
        "TCPREMOTEIP": "192.0.2.7",
        "QMAILQUEUE": str(queue),
        "UCSPITLS": "",
    }


@pytest.fixture
def listener(tmp_path: Path, site: dict[str, str]) -> Iterator[UcspiTls]:
    made = UcspiTls(tmp_path, site)
    yield made
    made.close()


def test_mail_comes_encrypted_by_the_listener(tmp_path: Path, listener: UcspiTls) -> None:
    client = listener.connection()
    client.ehlo("client.example")
    assert client.has_extn("starttls")
    client.starttls(context=ANYBODY)
    client.ehlo("client.example")
    assert not client.has_extn("starttls")
    client.sendmail("ann@elsewhere.example", ["joe@example.org"], "Subject: through\n\nx\n")
    assert client.quit()[0] == 221
    assert b"with ESMTPS (TLS_" in (tmp_path / "message").read_bytes()


def test_what_was_said_in_clear_together_with_starttls_is_not_carried_out(listener: UcspiTls) -> None:
    client = listener.connection()
    listener.client.sendall(b"EHLO c.example\r\nMAIL FROM:<evil@elsewhere.example>\r\n")
    assert [client.getreply()[0] for _ in range(2)] == [250, 250]
    listener.client.sendall(b"STARTTLS\r\nRCPT TO:<joe@example.org>\r\nNOOP\r\n")
    assert client.getreply()[0] == 220
    client.file.close()
    client.sock, client.file = ANYBODY.wrap_socket(listener.client), None
    assert client.docmd("RCPT TO:<joe@example.org>")[0] == 503
    assert client.noop()[0] == 250
    assert client.docmd("STARTTLS")[0] == 502


def test_a_listener_that_cannot_encrypt_ends_the_session(tmp_path: Path, site: dict[str, str]) -> None:
    silent = UcspiTls(tmp_path, site, answers=False)
    try:
        client = silent.connection()
        assert client.docmd("STARTTLS")[0] == 220
        assert silent.program.wait(PATIENCE) == 1
    finally:
        silent.close()


def test_mandatory_means_nothing_is_taken_before(tmp_path: Path, site: dict[str, str]) -> None:
    strict = UcspiTls(tmp_path, site | {"UCSPITLS": "!"})
    try:
        client = strict.connection()
        client.ehlo("client.example")
        assert client.mail("ann@elsewhere.example")[0] == 530
    finally:
        strict.close()


@pytest.mark.parametrize("value", ["-", None])
def test_it_is_not_offered_where_the_rules_say_so(tmp_path: Path, site: dict[str, str], value: str | None) -> None:
    environment = {name: text for name, text in site.items() if name != "UCSPITLS"}
    other = UcspiTls(tmp_path, environment if value is None else environment | {"UCSPITLS": value})
    try:
        client = other.connection()
        client.ehlo("client.example")
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 502
    finally:
        other.close()


def test_rules_of_the_resident_server_cannot_name_descriptors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSLCTLFD", raising=False)
    one = make_plugin(Tls, home=Home(str(tmp_path)))
    one.start()
    session = Session(environment={"UCSPITLS": "", "SSLCTLFD": "1", "SSLREADFD": "1", "SSLWRITEFD": "1"})
    assert one.listener_for(session) is None
    assert one.smtp_capabilities(session) == []


def test_numbers_that_are_no_descriptors_are_no_listener() -> None:
    for numbers in (("x", "1", "2"), ("99999", "99999", "99999"), ("9" * 40, "1", "2"), ("", "", "")):
        assert Listener.of(dict(zip(("SSLCTLFD", "SSLREADFD", "SSLWRITEFD"), numbers, strict=True))) is None


async def test_the_name_that_the_client_asked_for_becomes_ours(tmp_path: Path) -> None:
    one = make_plugin(Tls, home=Home(str(tmp_path)))
    one.listener = Listener(3, 4, 5)
    session = Session(environment={"UCSPITLS": ""})

    async def switch(begin: object) -> Layer:
        return Layer("TLSv1.3", "X", server_name="other.example")

    said: list[bytes] = []
    await one.starttls(session, b"", SimpleNamespace(reply=said.append, switch=switch))
    assert said == [READY]
    assert session.greeting == b"other.example"


def test_an_answer_is_read_to_its_end_and_not_believed_beyond_its_form() -> None:
    assert ends(b"\0")
    assert ends(b"A=1\0\0")
    assert not ends(b"A=1\0")
    variables = parse_variables(b"SSL_PROTOCOL=TLSv1.3\0SSL_CIPHER=X\0nothing\0=y\0\0")
    assert variables == {"SSL_PROTOCOL": "TLSv1.3", "SSL_CIPHER": "X"}
    assert describe(variables).cipher == "X"
    assert describe({}).cipher == "TLS"
