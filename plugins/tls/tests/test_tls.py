"""tls: what is offered, what is forgotten, what is required, and who may relay by a certificate."""

from __future__ import annotations

import dataclasses
import datetime
import os
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Recipient, Session, Transaction
from pluq.config import Home
from pluq.errors import ConfigError
from pluq.hookspecs import Tls as Layer
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk
from pluq_tls import NO_CERTIFICATE, Tls
from pluq_tls.contexts import is_host_name, server_context
from pluq_tls.selfsigned import make_certificate, self_signed

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
PAIR = make_certificate(["mx.example.org"], 3650, NOW)


def read(path: str) -> bytes:
    return Path(path).read_bytes()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "servercert.pem").write_bytes(PAIR)
    return Home(str(tmp_path))


def plugin(home: Home, **settings: Any) -> Tls:
    made = make_plugin(Tls, home=home, **settings)
    made.start()
    return made


def talk(home: Home, environment: dict[str, str] | None = None, **settings: Any) -> Talk:
    return Talk(plan=plan_of(plugin(home, **settings)), environment=environment or {})


def test_tls_is_offered_with_a_certificate_and_not_without(home: Home) -> None:
    assert "250 STARTTLS" in talk(home).say("EHLO c.example")
    assert "STARTTLS" not in talk(home, {"DISABLETLS": "1"}).say("EHLO c.example")
    os.unlink(home.control("servercert.pem"))
    assert "STARTTLS" not in talk(home).say("EHLO c.example")
    assert talk(home).say("STARTTLS") == "502 unimplemented (#5.5.1)"


def test_a_faulty_certificate_is_told_by_check_and_costs_only_tls(home: Home) -> None:
    Path(home.control("servercert.pem")).write_bytes(PAIR[PAIR.index(b"-----BEGIN CERT") :])
    one = plugin(home)
    (fault,) = one.check()
    assert fault.startswith(home.control("servercert.pem") + ": no usable key and certificate")
    session = talk(home)
    assert session.say("STARTTLS").startswith("454 TLS unable to initialize")
    assert session.say("NOOP") == "250 ok"


def test_a_missing_certificate_is_a_fault_only_where_tls_is_required(home: Home) -> None:
    os.unlink(home.control("servercert.pem"))
    assert plugin(home).check() == []
    assert "there is no certificate" in plugin(home, required=True).check()[0]


@pytest.mark.parametrize("setting", ["certificate", "key", "client_authorities", "client_revoked"])
def test_a_file_that_the_site_names_has_to_be_there(home: Home, setting: str) -> None:
    (fault,) = plugin(home, **{setting: "control/elsewhere.pem"}).check()
    assert fault == f"test: tls.{setting}: {home.control('elsewhere.pem')}: there is no such file"


def test_the_certificate_that_is_shown_to_other_hosts_has_to_be_there_where_it_is_named(home: Home) -> None:
    made = make_plugin(Tls, home=home, role="remote", client_certificate="/nonexistent/c.pem")
    assert made.check() == ["test: tls.client_certificate: /nonexistent/c.pem: there is no such file"]
    assert make_plugin(Tls, home=home, role="remote").check() == []


def test_a_certificate_below_a_folder_that_only_root_may_enter_is_used(home: Home) -> None:
    made = make_plugin(Tls, home=home, certificate="/closed/servercert.pem")  # our own eyes see nothing there
    context = dataclasses.replace(made.context, read_file=lambda path: PAIR)
    made.context = context
    made.start()
    assert made.check() == []
    assert "250 STARTTLS" in Talk(plan=plan_of(made)).say("EHLO c.example")


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_passphrase(home: Home) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(PAIR, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    Path(home.control("servercert.pem")).write_bytes(locked + PAIR[PAIR.index(b"-----BEGIN CERT") :])
    with pytest.raises(ConfigError):
        server_context(home.control("servercert.pem"), "", "TLSv1.2", "", read)


async def test_what_came_with_starttls_and_before_it_is_forgotten(home: Home) -> None:
    one = talk(home)
    one.say("EHLO c.example")
    one.say("MAIL FROM:<a@b>")
    one.send(b"STARTTLS\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<joe@example.org>\r\n")
    await one.settled()
    assert one.said.endswith(b"220 ready for tls\r\n")
    assert await one.ask("RCPT TO:<joe@example.org>") == "503 MAIL first (#5.5.1)"
    assert one.session.helo is None


@pytest.mark.parametrize(("line", "reply"), [("STARTTLS now", "501 Syntax error (no parameters allowed) (#5.5.4)")])
async def test_starttls_takes_no_argument(home: Home, line: str, reply: str) -> None:
    assert await talk(home).ask(line) == reply


async def test_tls_starts_once(home: Home) -> None:
    one = talk(home)
    assert await one.ask("STARTTLS") == "220 ready for tls"
    assert "STARTTLS" not in await one.ask("EHLO c.example")
    assert await one.ask("STARTTLS") == "502 unimplemented (#5.5.1)"


async def test_nothing_is_taken_before_tls_where_it_is_required(home: Home) -> None:
    one = talk(home, required=True)
    one.say("EHLO c.example")
    for line in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "AUTH PLAIN"):
        assert await one.ask(line) == "530 must issue STARTTLS first (#5.7.0)"
    await one.ask("STARTTLS")
    assert await one.ask("MAIL FROM:<a@b>") == "250 ok"


async def test_implicit_tls_comes_before_the_banner(home: Home) -> None:
    one = talk(home, implicit=True)
    await one.settled()
    assert one.session.tls is not None
    assert one.said == b"220 mx.example.org ESMTP\r\n"


async def test_implicit_tls_without_a_certificate_is_a_fault_of_the_controls(home: Home) -> None:
    os.unlink(home.control("servercert.pem"))
    one = talk(home, implicit=True)
    await one.settled()
    assert one.said == b"421 unable to read controls (#4.3.0)\r\n"


async def test_a_certificate_of_a_listed_client_opens_the_relay_and_no_other_does(home: Home) -> None:
    Path(home.control("tlsclients")).write_text("Joe@example.net\n")
    Path(home.control("clientca.pem")).write_bytes(PAIR[PAIR.index(b"-----BEGIN CERT") :])
    one = plugin(home)

    async def relays(email: str | None) -> bool:
        session = Session()

        async def start_tls(context: ssl.SSLContext) -> Layer:
            assert context.verify_mode is ssl.CERT_OPTIONAL
            return Layer("TLSv1.3", "X", client_email=email)

        await one.starttls(session, b"", SimpleNamespace(reply=lambda data: None, start_tls=start_tls))
        return session.may_relay

    assert await relays("joe@example.net")
    assert not await relays("ann@example.net")
    assert not await relays(None)


def test_a_refused_relay_over_tls_hears_that_a_certificate_would_help(home: Home) -> None:
    session = Session(tls=Layer("TLSv1.3", "X"))
    one = plugin(home)
    assert one.smtp_rcpt(session, Transaction(b"a@b"), Recipient(b"x@foreign", allowed=False)) == NO_CERTIFICATE
    assert one.smtp_rcpt(session, Transaction(b"a@b"), Recipient(b"joe@example.org")) is None
    assert one.smtp_rcpt(Session(), Transaction(b"a@b"), Recipient(b"x@foreign", allowed=False)) is None


def test_nothing_older_than_tls_12_is_spoken(home: Home) -> None:
    context = server_context(home.control("servercert.pem"), "", "TLSv1.2", "", read)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert (
        server_context(home.control("servercert.pem"), "", "TLSv1.3", "", read).minimum_version
        is ssl.TLSVersion.TLSv1_3
    )
    with pytest.raises(ConfigError, match="OpenSSL knows none of"):
        server_context(home.control("servercert.pem"), "", "TLSv1.2", "NOSUCH", read)


def test_rules_may_name_the_ciphers_of_a_client_and_a_list_that_is_none_changes_nothing(home: Home) -> None:
    logged: list[str] = []
    one = make_plugin(Tls, home=home, log=logged.append)
    one.start()
    assert one.default is not None

    def context(**environment: str) -> ssl.SSLContext:
        return one.context_of(Session(environment=environment), one.default or ssl.SSLContext())

    chosen = context(TLSCIPHERS="ECDHE-RSA-AES256-GCM-SHA384")
    assert [each["name"] for each in chosen.get_ciphers() if each["protocol"] == "TLSv1.2"] == [
        "ECDHE-RSA-AES256-GCM-SHA384"
    ]
    assert context(TLSCIPHERS="ECDHE-RSA-AES256-GCM-SHA384") is chosen
    assert context() is one.default
    assert context(TLSCIPHERS="no-such-thing") is one.default
    assert len([line for line in logged if "$TLSCIPHERS" in line]) == 1


def test_a_name_that_a_client_asks_for_chooses_its_certificate_and_cannot_leave_the_folder(home: Home) -> None:
    folder = Path(home.control("servercerts/other.example"))
    folder.mkdir(parents=True)
    (folder / "servercert.pem").write_bytes(make_certificate(["other.example"], 3650, NOW))
    one = plugin(home)
    assert one.context_for("other.example") is not None
    assert one.context_for("unknown.example") is None
    assert one.context_for("../servercerts/other.example") is None


@given(st.text(max_size=80))
def test_a_host_name_is_never_a_path(name: str) -> None:
    if is_host_name(name):
        assert "/" not in name
        assert name not in (".", "..")
        assert name.isascii()


def test_self_signed_writes_a_pair_that_works_once(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    path = home.control("new.pem")
    assert self_signed(["--home", home.path, "--name", "mx.example.org", "--output", path]) == 0
    assert os.stat(path).st_mode & 0o007 == 0
    server_context(path, "", "TLSv1.2", "", read)
    assert self_signed(["--home", home.path, "--name", "mx.example.org", "--output", path]) == 100
    assert "is there already" in capsys.readouterr().err


class TestConformance(Conformance):
    plugin = Tls
