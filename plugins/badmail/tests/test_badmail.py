"""badmail: patterns as POSIX reads them, in bounded time, and who is concerned."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Recipient, Session, Transaction, Verdict
from pluq.config import Home
from pluq.dns import Resolver
from pluq.testing.clock import virtual_time
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk, default_policy
from pluq_badmail import BAD_HELO, BAD_RECIPIENT, BAD_SENDER, NO_DNS, NO_NULL_SENDER, NO_RELAY, NO_SUCH_DOMAIN, BadMail
from pluq_badmail.patterns import PlainList, Rule, Rules

MATCHES = [
    (rb"^spam@bad\.example$", b"SPAM@bad.EXAMPLE", True),
    (rb"^spam@bad\.example$", b"spam@bad.example.net", False),
    (rb"[0-9]{4,}@", b"1234@x", True),
    (rb"!@good\.example$", b"a@bad.example", True),
    (rb"!@good\.example$", b"a@good.example", False),
    (rb"a\+b@", b"a+b@x", True),
    (rb"a\+b@", b"aab@x", False),
    (rb"[\]x", b"\\x", True),
    (rb"[]a]b", b"]b", True),
    (rb"[^]a]b", b"]b", False),
    (rb"[[]x", b"[x", True),
    (rb"[[:digit:]]x", b"7x", True),
    (rb"^a{,2}$", b"aa", True),
    (rb"\<bad", b"x bad", True),
    (rb"\d", b"7", False),
    (rb"\d", b"d", True),
    (b"\xe9", b"caf\xe9@x", True),
    (rb"[", b"anything", False),
    (rb"(joe|ann)@", b"ann@x", True),
]


@pytest.mark.parametrize(("line", "text", "refused"), MATCHES)
def test_a_line_refuses_what_posix_would_match(line: bytes, text: bytes, refused: bool) -> None:
    assert Rule(line).refuses(text) is refused


@given(st.binary(max_size=60), st.binary(max_size=200))
def test_no_line_and_no_address_can_break_the_matcher(line: bytes, text: bytes) -> None:
    Rules.of([line]).refusing(text)
    PlainList.of([line]).refusing(text)


def test_a_pattern_that_takes_others_exponential_time_is_quick() -> None:
    began = time.process_time()
    assert Rules.of([rb"^(a+)+$"]).refusing(b"a" * 900 + b"!") is None
    assert time.process_time() - began < 10  # seconds of the processor: a search that goes back would take hours


def test_plain_entries_are_addresses_hosts_and_domains() -> None:
    plain = PlainList.of([b"joe@a.example", b"@b.example", b".c.example"])
    refused = [b"JOE@a.example", b"any@B.example", b"x@y.c.example", b"x@z.y.c.example"]
    assert all(plain.refusing(address) for address in refused)
    passed = [b"xjoe@a.example", b"x@sub.b.example", b"x@c.example", b"b.example"]
    assert not any(plain.refusing(address) for address in passed)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    return Home(str(tmp_path))


async def ask(
    home: Home, files: dict[str, str], session: Session, sender: bytes = b"s@x", recipient: bytes = b"r@x"
) -> Verdict | None:
    for name, text in files.items():
        Path(home.control(name)).write_text(text)
    plugin = make_plugin(BadMail, home=home, rejectrelaytest="rejectrelaytest" in files)
    plugin.start()
    transaction = Transaction(sender)
    asked = Recipient(recipient)
    return (
        await plugin.smtp_mail(session, transaction)
        or plugin.smtp_rcpt(session, transaction, asked)
        or plugin.smtp_rcpt_allowed(session, asked)
    )


@pytest.mark.parametrize(
    ("match", "reply"),
    [
        ("regex", "553 sorry, your envelope sender has been denied (#5.7.1)"),
        ("plain", "553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)"),
    ],
)
async def test_one_reading_of_badmailfrom_answers(home: Home, match: str, reply: str) -> None:
    Path(home.control("badmailfrom")).write_text("bad@x.example\n")
    plugin = make_plugin(BadMail, home=home, match=match)
    plugin.start()
    talk = Talk(policy=default_policy(badmailfrom=frozenset([b"bad@x.example"])), plan=plan_of(plugin))
    await talk.ask("MAIL FROM:<bad@x.example>")
    assert await talk.ask("RCPT TO:<joe@example.org>") == reply


RELAY = {"RELAYCLIENT": ""}
CASES = [
    ({"badmailfrom": "bad\n"}, {}, {"sender": b"bad@x"}, BAD_SENDER),
    ({"badmailfrom": "bad\n"}, RELAY, {"sender": b"bad@x"}, BAD_SENDER),
    ({"badmailfrom": "bad\n"}, {"DISABLE_BADMAILFROM": "0"}, {"sender": b"bad@x"}, None),
    ({"badmailfromnorelay": "bad\n"}, RELAY, {"sender": b"bad@x"}, None),
    ({"badmailfromnorelay": "bad\n"}, {}, {"sender": b"bad@x"}, BAD_SENDER),
    ({"badmailfrom": "!good\n"}, {}, {"sender": b""}, None),
    ({"badrcptto": "trap\n"}, {}, {"recipient": b"trap@x"}, BAD_RECIPIENT),
    ({"badmailto": "trap\n"}, {}, {"recipient": b"trap@x"}, BAD_RECIPIENT),
    ({"badrcptto": "trap\n", "badmailfrom": "bad\n"}, {}, {"sender": b"bad@x", "recipient": b"trap@x"}, BAD_SENDER),
    ({"badhelo": "client\n", "badmailfrom": "bad\n"}, {}, {"sender": b"bad@x"}, BAD_HELO),
    ({"badhelonorelay": "client\n"}, RELAY, {}, None),
    ({"rejectrelaytest": "1\n", "badhelo": "client\n"}, {}, {"recipient": b"a%b@x"}, NO_RELAY),
    ({"rejectrelaytest": "1\n"}, {}, {"recipient": b"elsewhere!joe"}, NO_RELAY),
    ({"rejectrelaytest": "1\n"}, {}, {"recipient": b"joe@ex!ample.org"}, None),
]


@pytest.mark.parametrize(("files", "environment", "addresses", "verdict"), CASES)
async def test_who_is_refused(
    home: Home, files: dict[str, str], environment: dict[str, str], addresses: dict[str, bytes], verdict: Verdict | None
) -> None:
    assert await ask(home, files, Session(environment=dict(environment), helo=b"client"), **addresses) == verdict


async def test_a_client_that_gave_no_name_is_not_refused_for_it(home: Home) -> None:
    assert await ask(home, {"badhelo": ".*\n"}, Session(helo=None)) is None
    assert await ask(home, {"badhelo": "^$\n"}, Session(helo=b"")) == BAD_HELO


def test_what_another_plugin_vouches_for_passes_the_lists(home: Home) -> None:
    for name in ("badhelo", "badmailfrom", "badrcptto"):
        Path(home.control(name)).write_text(".\n")
    plugin = make_plugin(BadMail, home=home)
    plugin.start()
    session = Session(helo=b"client", is_helo_vouched=True)
    recipient = Recipient(b"r@x", is_vouched=True)
    assert plugin.smtp_rcpt(session, Transaction(b"s@x", is_sender_vouched=True), recipient) is None
    assert plugin.smtp_rcpt_allowed(session, recipient) is None
    assert session.bad_recipients == 0


async def test_messages_without_a_sender_can_be_turned_away(home: Home) -> None:
    plugin = make_plugin(BadMail, home=home)
    assert await plugin.smtp_mail(Session(environment={"REJECTNULLSENDERS": "1"}), Transaction(b"")) == NO_NULL_SENDER
    assert await plugin.smtp_mail(Session(), Transaction(b"")) is None


ZONE = {
    "mail.example": [("MX", (10, "mx.mail.example"))],
    "host.example": [("A", "192.0.2.1")],
    "six.example": [("AAAA", "2001:db8::1")],
    "null.example": [("MX", (0, "."))],
    "text.example": [("TXT", "no mail here")],
    "broken.example": Fault.SERVFAIL,
    "silent.example": Fault.TIMEOUT,
}
DOMAINS = [
    (b"joe@mail.example", {}, None),
    (b"joe@host.example", {}, None),
    (b"joe@six.example", {}, None),
    (b"joe@[192.0.2.9]", {}, None),
    (b"joe", {}, None),
    (b"", {}, None),
    (b"joe@null.example", {}, NO_SUCH_DOMAIN),
    (b"joe@text.example", {}, NO_SUCH_DOMAIN),
    (b"joe@nowhere.example", {}, NO_SUCH_DOMAIN),
    (b"joe@nowhere.example", RELAY, None),
    (b"joe@nowhere.example", {"MFCHECK": "0"}, None),
    (b"joe@broken.example", {}, NO_DNS),
    (b"joe@silent.example", {}, NO_DNS),
    (b"joe@" + b"x" * 70 + b".example", {}, NO_SUCH_DOMAIN),
    (b"joe@a..example", {}, NO_SUCH_DOMAIN),
]


@pytest.mark.parametrize(("sender", "environment", "verdict"), DOMAINS)
@virtual_time
async def test_a_senders_domain_must_exist(sender: bytes, environment: dict[str, str], verdict: Verdict | None) -> None:
    with FakeDns(ZONE) as server:
        resolver = Resolver([server.address])
        plugin = make_plugin(BadMail, resolver=lambda: resolver, mfcheck=1)
        session = Session(environment=environment)
        assert await plugin.smtp_mail(session, Transaction(sender)) == verdict
        await resolver.close()


@pytest.mark.parametrize(("level", "logged"), [(1, []), (2, ["nowhere"]), (3, ["mail", "nowhere"])])
async def test_what_is_found_out_is_logged_from_its_level_on(level: int, logged: list[str]) -> None:
    with FakeDns(ZONE) as server:
        resolver = Resolver([server.address])
        lines: list[str] = []
        plugin = make_plugin(BadMail, resolver=lambda: resolver, mfcheck=level, log=lines.append)
        for name in (b"mail", b"nowhere"):
            await plugin.smtp_mail(Session(), Transaction(b"joe@" + name + b".example"))
        await resolver.close()
    assert [word for line in lines for word in ("mail", "nowhere") if f"'{word}.example'" in line] == logged


def test_check_names_the_file_and_the_line_that_is_no_pattern(home: Home) -> None:
    Path(home.control("badmailfrom")).write_text("good\n[\n")
    (fault,) = make_plugin(BadMail, home=home).check()
    assert fault.startswith(home.control("badmailfrom") + ": '['")


class TestConformance(Conformance):
    plugin = BadMail
