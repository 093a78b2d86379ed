"""Profiles per port in one daemon: 25 with STARTTLS, 587 that requires it, 465 that begins with it; driven by real clients."""

from __future__ import annotations

import os
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.x509 import DNSName, SubjectAlternativeName, load_der_x509_certificate

from pluq.testing.stack import BIN, Stack, free_port, wait_until
from pluq_tls.selfsigned import self_signed

pytestmark = pytest.mark.integration

TOML = """
[profile.mx]
listen = ["127.0.0.1:{mx}"]
plugins = ["size", "tls"]

[profile.submission]
listen = ["127.0.0.1:{submission}"]
plugins = ["size", "tls"]
tls.required = true

[profile.submissions]
extends = "submission"
listen = ["127.0.0.1:{submissions}"]
tls.implicit = true
"""
OTHER = "mx.other.example"
ANYBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANYBODY.check_hostname = False
ANYBODY.verify_mode = ssl.CERT_NONE


class Ports:
    def __init__(self) -> None:
        self.mx, self.submission, self.submissions = free_port(), free_port(), free_port()


@pytest.fixture(scope="module")
def ports() -> Ports:
    return Ports()


@pytest.fixture(scope="module")
def stack(ports: Ports) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="pluq-test.") as folder:
        os.chmod(folder, 0o755)
        made = Stack(folder)
        made.port, made.listens_itself = ports.mx, True
        make_certificate(made, "mail.example.org", "servercert.pem")
        make_certificate(made, OTHER, f"servercerts/{OTHER}/servercert.pem")
        made.control("pluq.toml", TOML.format(**vars(ports)))
        made.start()
        yield made
        made.stop()


def make_certificate(stack: Stack, name: str, file: str) -> None:
    """Make a certificate whose file only root may read, where there is one."""
    path = stack.home.control(file)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    assert self_signed(["--home", stack.home.path, "--name", name, "--output", path]) == 0
    os.chmod(path, 0o600)
    os.chown(path, 0 if stack.split else -1, -1)


def send(client: smtplib.SMTP, subject: str) -> None:
    client.sendmail("ann@elsewhere.example", ["joe@example.org"], f"Subject: {subject}\n\nx\n")


def test_port_25_offers_tls_and_takes_mail_either_way(stack: Stack, ports: Ports) -> None:
    with smtplib.SMTP("127.0.0.1", ports.mx) as client:
        send(client, "clear")
    with smtplib.SMTP("127.0.0.1", ports.mx) as client:
        client.starttls(context=ANYBODY)
        send(client, "encrypted")
    stack.wait_mail("clear", "encrypted")
    (mail,) = [path.read_text() for path in (stack.maildir() / "new").iterdir() if "encrypted" in path.read_text()]
    assert "with ESMTPS (TLS_" in mail


def test_port_587_takes_nothing_before_tls(stack: Stack, ports: Ports) -> None:
    with smtplib.SMTP("127.0.0.1", ports.submission) as client:
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            send(client, "refused")
        assert refused.value.smtp_code == 530
    with smtplib.SMTP("127.0.0.1", ports.submission) as client:
        client.starttls(context=ANYBODY)
        send(client, "submission")
    stack.wait_mail("submission")


def test_port_465_begins_with_tls(stack: Stack, ports: Ports) -> None:
    with smtplib.SMTP_SSL("127.0.0.1", ports.submissions, context=ANYBODY) as client:
        send(client, "submissions")
    stack.wait_mail("submissions")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [(OTHER, OTHER), (OTHER.upper(), OTHER), ("nobody.example", "mail.example.org"), (None, "mail.example.org")],
)
def test_a_client_is_shown_the_certificate_of_the_name_that_it_asks_for(
    stack: Stack, ports: Ports, asked: str | None, shown: str
) -> None:
    with (
        socket.create_connection(("127.0.0.1", ports.submissions), 30) as plain,
        ANYBODY.wrap_socket(plain, server_hostname=asked) as secured,
    ):
        certificate = load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
        assert secured.recv(100).startswith(b"220 ")
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    assert names.get_values_for_type(DNSName) == [shown]


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(stack: Stack, ports: Ports, version: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    address = f"127.0.0.1:{ports.submissions}"
    command = ["openssl", "s_client", "-connect", address, version, "-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=30, check=False)
    assert b"Cipher is (NONE)" in done.stdout or done.returncode != 0


def test_swaks_delivers_with_tls(stack: Stack, ports: Ports) -> None:
    if shutil.which("swaks") is None:
        pytest.skip("needs swaks")
    for option, port in (("--tls", ports.submission), ("--tlsc", ports.submissions)):
        command = ["swaks", "--server", f"127.0.0.1:{port}", option, "--to", "joe@example.org", "--from", "a@b.example"]
        done = subprocess.run(
            [*command, "--header", f"Subject: swaks{port}"], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout
        stack.wait_mail(f"swaks{port}")


def test_a_new_certificate_is_used_after_a_reload(stack: Stack, ports: Ports) -> None:
    path = stack.home.control("servercert.pem")
    before = certificate(ports.submissions)
    os.unlink(path)
    assert self_signed(["--home", stack.home.path, "--name", "new.example.org", "--output", path]) == 0
    subprocess.run([str(BIN / "pluq"), "check", "--home", stack.home.path], check=True, capture_output=True, timeout=60)
    stack.process.send_signal(1)
    wait_until(lambda: certificate(ports.submissions) != before, stack.told)


def certificate(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_a_faulty_file_at_a_reload_leaves_everything_as_it_was(stack: Stack, ports: Ports) -> None:
    good = Path(stack.home.control("pluq.toml")).read_text()
    stack.control("pluq.toml", good.replace('"tls"]', '"tsl"]', 1))
    stack.process.send_signal(1)
    wait_until(lambda: "did you mean 'tls'?" in stack.log.read_text(), stack.told)
    with smtplib.SMTP("127.0.0.1", ports.mx) as client:
        assert client.ehlo()[0] == 250
        assert client.has_extn("starttls")
    stack.control("pluq.toml", good)
