"""eai in a whole stack: UTF-8 addresses from clients and programs, at home, and to and from a real Postfix."""

from __future__ import annotations

import os
import shutil
import smtplib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.peers import DOMAIN as POSTFIX_DOMAIN
from bench.peers import RECIPIENT, Postfix
from bench.setups import missing

from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.stack import PATIENCE, Stack, wait_until

pytestmark = pytest.mark.integration

TOML = """
[profile.mx]
listen = ["127.0.0.1:{port}"]
plugins = ["eai"]

[queue]
plugins = ["eai"]

[remote]
plugins = ["eai"]
"""
USER = "дом"


class International(Postfix):
    """A Postfix that knows SMTPUTF8, and has a user with a UTF-8 name."""

    def more_settings(self) -> dict[str, str]:
        alias = f"inline:{{{{{USER}@{POSTFIX_DOMAIN} = {RECIPIENT}@{POSTFIX_DOMAIN}}}}}"
        return {"smtputf8_enable": "yes", "virtual_alias_maps": alias}


class Plain(Postfix):
    """A Postfix that does not."""

    def more_settings(self) -> dict[str, str]:
        return {"smtputf8_enable": "no"}


@pytest.fixture
def folder() -> Iterator[Path]:
    made = tempfile.mkdtemp(prefix="pluq-test.")
    os.chmod(made, 0o755)
    yield Path(made)
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def stack(folder: Path) -> Iterator[Stack]:
    """A stack that is not started, with domains in both forms."""
    (folder / "pluq").mkdir()
    made = Stack(folder / "pluq")
    made.listens_itself = True
    made.add_user(USER)
    made.control("pluq.toml", TOML.format(port=made.port))
    made.control("locals", "example.org\nпример.рф")
    made.control("rcpthosts", f"example.org\nпример.рф\nxn--bcher-kva.example\n{POSTFIX_DOMAIN}")
    yield made
    if made.runs:
        made.process.terminate()
        made.process.wait(PATIENCE)


def postfix(kind: type[Postfix], folder: Path, port: int) -> Iterator[Postfix]:
    if why := missing(kind):
        pytest.skip(why)
    peer = kind(str(folder / "postfix"), port)
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()


@pytest.fixture
def international(folder: Path, stack: Stack) -> Iterator[Postfix]:
    yield from postfix(International, folder, stack.port)


@pytest.fixture
def plain(folder: Path, stack: Stack) -> Iterator[Postfix]:
    yield from postfix(Plain, folder, stack.port)


def send(port: int, sender: str, recipient: str, subject: str) -> None:
    text = f"From: {sender}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\nтело\r\n".encode()
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
        client.ehlo("client.example")
        client.sendmail(sender, [recipient], text, mail_options=["SMTPUTF8", "BODY=8BITMIME"])


def mails(stack: Stack, name: str) -> list[str]:
    return [path.read_text() for path in sorted((stack.maildir(name) / "new").iterdir())]


def test_users_with_utf8_names_get_their_mail(stack: Stack) -> None:
    stack.start()
    send(stack.port, "ян@bücher.example", f"{USER}@example.org", "привет")
    stack.wait_mail("привет", name=USER)
    (mail,) = mails(stack, USER)
    assert mail.startswith('Return-Path: <"ян"@xn--bcher-kva.example>\nDelivered-To: дом@example.org\n')
    assert " with UTF8SMTP; " in mail
    assert "From: ян@bücher.example\nTo: дом@example.org\nSubject: привет\n\nтело\n" in mail
    for domain in ("ПРИМЕР.рф", "xn--e1afmkfd.xn--p1ai"):
        send(stack.port, "ян@bücher.example", f"{USER}@{domain}", domain)
    stack.run("sendmail", f"{USER}@Пример.рф", input=f"To: {USER}@Пример.рф\nSubject: sendmail\n\nx\n".encode())
    stack.wait_mail("ПРИМЕР.рф", "xn--e1afmkfd.xn--p1ai", "sendmail", name=USER)
    assert all(mail.count("Delivered-To: дом@пример.рф\n") == 1 for mail in mails(stack, USER)[1:])


def test_a_domain_alone_needs_nothing_of_the_other_host(stack: Stack) -> None:
    with SmtpPeer(capabilities=(b"8BITMIME",)) as peer:
        stack.control("smtproutes", f"xn--bcher-kva.example:127.0.0.1:{peer.port}")
        stack.start()
        stack.run("sendmail", "ann@bücher.example", input="Subject: тема\n\nx\n".encode())
        wait_until(lambda: peer.sessions and peer.sessions[0].messages, stack.told)
    assert b"RCPT TO:<ann@xn--bcher-kva.example>" in peer.sessions[0].commands
    assert not any(b"SMTPUTF8" in command for command in peer.sessions[0].commands)
    assert "Subject: тема\r\n".encode() in peer.sessions[0].messages[0]


def test_mail_goes_to_a_postfix_that_offers_smtputf8_and_comes_from_it(stack: Stack, international: Postfix) -> None:
    stack.control("smtproutes", f"{POSTFIX_DOMAIN}:127.0.0.1:{international.port}")
    stack.start()
    send(stack.port, f"{USER}@example.org", f"{USER}@{POSTFIX_DOMAIN}", "туда")
    (name,) = wait_until(lambda: os.listdir(international.new), lambda: f"a delivery by Postfix; {stack.told()}")
    mail = Path(f"{international.new}/{name}").read_text()
    assert "Subject: туда\n" in mail
    assert f"Return-Path: <{USER}@example.org>" in mail
    assert mail.count("with UTF8SMTP") == 2
    send(international.port, f"ян@{POSTFIX_DOMAIN}", f"{USER}@example.org", "обратно")
    stack.wait_mail("обратно", name=USER)
    assert mails(stack, USER)[0].count("with UTF8SMTP") == 2


def test_a_postfix_that_does_not_gets_nothing_and_the_sender_hears_why(stack: Stack, plain: Postfix) -> None:
    stack.control("smtproutes", f"{POSTFIX_DOMAIN}:127.0.0.1:{plain.port}")
    stack.start()
    send(stack.port, "joe@example.org", f"{USER}@{POSTFIX_DOMAIN}", "тема")
    stack.wait_mail("failure notice")
    (bounce,) = mails(stack, "joe")
    head, _, text = bounce.partition("\n\n")
    assert head.isascii()
    assert (
        f"<{USER}@{POSTFIX_DOMAIN}>:\nConnected to 127.0.0.1 but it does not offer SMTPUTF8, which the addresses"
        in text
    )
    assert "(#5.6.7)\n" in text
    assert os.listdir(plain.new) == []
