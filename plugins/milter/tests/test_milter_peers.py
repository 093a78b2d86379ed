"""Real milters on a real stack: OpenDKIM signs, rspamd refuses, and mail waits while they are away."""

from __future__ import annotations

import os
import shutil
import smtplib
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pluq.testing.ports import free_port
from pluq.testing.stack import Stack, wait_until

pytestmark = pytest.mark.integration

PATIENCE = 240.0
# What every spam filter takes for spam (GTUBE of SpamAssassin), in two halves: this file is none.
SPAM = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@contextmanager
def milter(command: Sequence[str | Path], port: int, log: Path) -> Iterator[None]:
    """Run a milter that listens on a port."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed here")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or listens(port), f"a start of {command[0]}", PATIENCE)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(60)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def stack() -> Iterator[tuple[Stack, int]]:
    """A stack that shows its mail to whoever listens on the port beside it."""
    with tempfile.TemporaryDirectory(prefix="pluq-test.") as folder:
        os.chmod(folder, 0o755)
        made, port = Stack(folder), free_port()
        milters = f'milter.servers = ["inet:127.0.0.1:{port}"]\nmilter.patience = 120\n'
        made.control("pluq.toml", f'[profile.stock]\nplugins = ["milter"]\n{milters}')
        made.start()
        yield made, port
        made.stop()


def send(stack: Stack, subject: str, text: str = "hello") -> None:
    with smtplib.SMTP("127.0.0.1", stack.port, timeout=PATIENCE) as client:
        letter = f"From: ann@example.net\nTo: joe@example.org\nSubject: {subject}\nDate: Sat, 21 Nov 2026 13:00:00 +0000\n\n{text}\n"
        client.sendmail("ann@example.net", ["joe@example.org"], letter)


def test_opendkim_signs_and_while_it_is_away_mail_waits(stack: tuple[Stack, int], tmp_path: Path) -> None:
    made, port = stack
    with pytest.raises(smtplib.SMTPResponseException) as refused:
        send(made, "nobody listens")
    assert refused.value.smtp_code == 451

    key = rsa.generate_private_key(65537, 2048)
    pem = tmp_path / "s1.private"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    pem.chmod(0o600)
    config = tmp_path / "opendkim.conf"
    config.write_text(f"Mode s\nDomain example.net\nSelector s1\nKeyFile {pem}\nRequireSafeKeys no\n")
    command = ["opendkim", "-f", "-x", str(config), "-p", f"inet:{port}@127.0.0.1"]
    with milter(command, port, tmp_path / "log"):
        send(made, "signed")
    made.wait_mail("signed")
    (path,) = (made.maildir() / "new").iterdir()
    text = path.read_text()
    assert "DKIM-Signature: v=1; a=rsa-sha256;" in text
    assert "d=example.net; s=s1;" in text
    assert text.index("DKIM-Signature:") < text.index("Subject: signed")


def test_rspamd_refuses_spam_and_lets_other_mail_pass(stack: tuple[Stack, int], tmp_path: Path) -> None:
    made, port = stack
    config = tmp_path / "rspamd.conf"
    config.write_text(
        f'options {{ filters = ""; explicit_modules = []; rundir = "{tmp_path}"; tempdir = "{tmp_path}"; hs_cache_dir = "{tmp_path}";\n'
        '  enable_test_patterns = true; dns { nameserver = ["127.0.0.1:1:1"]; timeout = 0.1s; retransmits = 1; } }\n'
        'logging { type = "console"; level = "notice"; }\nactions { reject = 15; }\n'
        f'worker "rspamd_proxy" {{ bind_socket = "127.0.0.1:{port}"; count = 1; milter = yes; timeout = 60s;\n'
        '  upstream "local" { default = yes; self_scan = yes; } }\n'
    )
    user = ["-i", "-u", "root", "-g", "root"] if os.geteuid() == 0 else []
    with milter(["rspamd", *user, "-f", "-c", str(config)], port, tmp_path / "log"):
        send(made, "harmless")
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            send(made, "spam", SPAM)
    assert refused.value.smtp_code == 554, refused.value
    made.wait_mail("harmless")
    assert len(list((made.maildir() / "new").iterdir())) == 1
