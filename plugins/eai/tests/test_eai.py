"""eai: what is offered, what is refused, in which form addresses are queued, and what other hosts must offer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pluq import Delivery, Message
from pluq.config import Home
from pluq.hookspecs import Envelope, Plugin, hook
from pluq.smtpd.policy import read_policy
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk
from pluq_eai import Eai
from pluq_eai.needs import Need, need_of

DOM = "дом@xn--e1afmkfd.xn--p1ai"
BY_UTF8 = "Received: from x (HELO y) (192.0.2.1)\n  by mx.example.org with UTF8SMTPS (CIPHER encrypted); date\n"
BY_SMTP = BY_UTF8.replace("UTF8SMTPS", "ESMTPS")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    found = Home(str(tmp_path))
    write(found, me="mx.example.org", rcpthosts="example.org")
    return found


def write(home: Home, **files: str) -> None:
    for name, text in files.items():
        Path(home.control(name)).write_text(f"{text}\n")


def talk(home: Home, *others: Plugin[Any], environment: dict[str, str] | None = None, **settings: Any) -> Talk:
    plan = plan_of(make_plugin(Eai, home=home, **settings), *others)
    one = Talk(plan=plan, policy=read_policy(home), environment=environment or {})
    one.say("EHLO client.example")
    return one


def said(one: Talk, *lines: str) -> str:
    """Say lines; return the last reply."""
    return [one.send(line.encode() + b"\r\n").decode() for line in lines][-1].strip()


# -- in


def test_the_extension_is_announced_where_it_is_offered(home: Home) -> None:
    offered, hidden = talk(home), talk(home, environment={"SMTPUTF8": "0"})
    assert "250 SMTPUTF8" in offered.said.decode()
    assert "SMTPUTF8" not in hidden.said.decode()


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("MAIL FROM:<дом@example.net> SMTPUTF8", "250 ok"),
        ("MAIL FROM:<дом@пример.рф> BODY=8BITMIME smtputf8", "250 ok"),
        ("MAIL FROM:<> SMTPUTF8", "250 ok"),
        ("MAIL FROM:<joe@example.net>", "250 ok"),
        ("MAIL FROM:<дом@example.net>", "550 sorry, that sender address needs SMTPUTF8 (#5.6.7)"),
        ("MAIL FROM:<joe@пример.рф>", "550 sorry, that sender address needs SMTPUTF8 (#5.6.7)"),
        ("MAIL FROM:<joe@example.net> SMTPUTF8=yes", "501 SMTPUTF8 takes no value (#5.5.4)"),
        (
            "MAIL FROM:<дом\u202e@example.net> SMTPUTF8",
            "553 sorry, that sender address is not proper UTF-8, or its domain cannot be (#5.1.7)",
        ),
        (
            "MAIL FROM:<дом@a..рф> SMTPUTF8",
            "553 sorry, that sender address is not proper UTF-8, or its domain cannot be (#5.1.7)",
        ),
    ],
)
def test_a_utf8_sender_needs_the_parameter(home: Home, line: str, reply: str) -> None:
    assert said(talk(home), line) == reply


@pytest.mark.parametrize(
    ("parameter", "address", "reply"),
    [
        (" SMTPUTF8", "дом@example.org", "250 ok"),
        (" SMTPUTF8", '"дом дом"@example.org', "250 ok"),
        (" SMTPUTF8", "joe@example.org", "250 ok"),
        ("", "joe@example.org", "250 ok"),
        ("", "дом@example.org", "553 sorry, that recipient address needs SMTPUTF8 (#5.6.7)"),
        ("", "joe@пример.рф", "553 sorry, that recipient address needs SMTPUTF8 (#5.6.7)"),
        (
            " SMTPUTF8",
            "дом\x7f@example.org",
            "553 sorry, that recipient address is not proper UTF-8, or its domain cannot be (#5.1.3)",
        ),
        (" SMTPUTF8", "дом@elsewhere.рф", "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
    ],
)
def test_a_utf8_recipient_needs_the_parameter(home: Home, parameter: str, address: str, reply: str) -> None:
    assert said(talk(home), f"MAIL FROM:<a@example.net>{parameter}", f"RCPT TO:<{address}>") == reply


def test_octets_that_are_no_utf8_are_refused_even_so(home: Home) -> None:
    one = talk(home)
    assert one.send(b"MAIL FROM:<d\xf6ner@example.net> SMTPUTF8\r\n").startswith(b"553 ")
    said(one, "MAIL FROM:<a@example.net> SMTPUTF8")
    assert one.send(b"RCPT TO:<d\xf6ner@example.org>\r\n").startswith(b"553 ")


def test_a_client_that_is_not_offered_it_finds_stock_behaviour(home: Home) -> None:
    one = talk(home, offered=False)
    assert said(one, "MAIL FROM:<дом@example.net> SMTPUTF8=x", "RCPT TO:<дом@example.org>") == "250 ok"


@pytest.mark.parametrize(
    ("files", "address", "queued"),
    [
        ({"rcpthosts": "пример.рф"}, "дом@пример.рф", DOM),
        ({"rcpthosts": "пример.рф"}, DOM, DOM),
        ({"rcpthosts": "xn--e1afmkfd.xn--p1ai"}, "дом@ПРИМЕР.рф", DOM),
        ({"rcpthosts": ".рф"}, "дом@пример.рф", DOM),
        ({"rcpthosts": "пример.рф", "locals": "пример.рф"}, DOM, "дом@пример.рф"),
        ({"rcpthosts": "xn--e1afmkfd.xn--p1ai", "locals": "пример.рф"}, "дом@пример.рф", "дом@пример.рф"),
        ({"rcpthosts": "пример.рф", "locals": "xn--e1afmkfd.xn--p1ai"}, "дом@пример.рф", DOM),
        ({"rcpthosts": "пример.рф", "virtualdomains": "пример.рф:joe"}, DOM, "дом@пример.рф"),
        ({"rcpthosts": "пример.рф", "virtualdomains": ".рф:joe"}, DOM, "дом@пример.рф"),
        ({"rcpthosts": "пример.рф", "virtualdomains": "xn--e1afmkfd.xn--p1ai:joe"}, "дом@пример.рф", DOM),
        ({"locals": "example.org"}, "e\u0301@example.org", "\u00e9@example.org"),
        ({"locals": "other.example"}, "e\u0301@example.org", "e\u0301@example.org"),
    ],
)
def test_a_domain_is_found_in_either_form_and_queued_in_that_of_its_delivery(
    home: Home, files: dict[str, str], address: str, queued: str
) -> None:
    write(home, **files)
    one = talk(home)
    assert said(one, "MAIL FROM:<a@example.net> SMTPUTF8", f"RCPT TO:<{address}>") == "250 ok"
    said(one, "DATA", "Subject: hi\r\n\r\nx\r\n.")
    assert one.queue.messages[0].recipients == [queued.encode()]


def test_an_a_label_is_found_without_the_extension(home: Home) -> None:
    write(home, rcpthosts="пример.рф", locals="пример.рф")
    assert said(talk(home), "MAIL FROM:<a@example.net>", "RCPT TO:<joe@xn--e1afmkfd.xn--p1ai>") == "250 ok"


def test_who_may_not_relay_gains_nothing_by_another_form(home: Home) -> None:
    for address in ("joe@xn--e1afmkfd.xn--p1ai", "joe@пример.рф", "joe@xn--zzzz99999.example"):
        assert said(talk(home), "MAIL FROM:<a@example.net> SMTPUTF8", f"RCPT TO:<{address}>").startswith("553 ")


def test_control_files_that_change_are_read_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pluq.listen.fresh.LOOK_SECONDS", 0.0)
    plugin = make_plugin(Eai, home=home)
    assert not plugin.ours.allows(DOM.encode())
    write(home, rcpthosts="example.org\nпример.рф")
    assert plugin.ours.allows(DOM.encode())


def test_lines_that_no_address_is_equal_to_are_named(home: Home) -> None:
    write(
        home,
        rcpthosts="пример.рф\nПример.рф\n.рф\nexample.org",
        locals="a..рф",
        virtualdomains="joe@bu\u0308cher.example:ann\n:x",
        badmailfrom="@пример.рф\nспам@example.net",
        smtproutes=".рф:relay.example\n:192.0.2.1",
    )
    assert make_plugin(Eai, home=home).check() == [
        f"{home.control('rcpthosts')}: Пример.рф: write пример.рф",
        f"{home.control('locals')}: a..рф: no domain",
        f"{home.control('virtualdomains')}: bu\u0308cher.example: write bücher.example",
        f"{home.control('badmailfrom')}: пример.рф: write xn--e1afmkfd.xn--p1ai",
        f"{home.control('smtproutes')}: рф: write xn--p1ai",
    ]


def test_received_says_utf8smtp_only_where_it_was_asked_for(home: Home) -> None:
    words = []
    for parameter in ("", " SMTPUTF8"):
        one = talk(home)
        said(
            one,
            f"MAIL FROM:<a@example.net>{parameter}",
            "RCPT TO:<joe@example.org>",
            "DATA",
            "Subject: hi\r\n\r\nx\r\n.",
        )
        words.append(one.queue.messages[0].message.split(b" with ")[1].partition(b";")[0])
    assert words == [b"SMTP", b"UTF8SMTP"]


def test_other_plugins_see_domains_as_dns_has_them(home: Home) -> None:
    seen: list[bytes] = []

    class Watcher(Plugin):
        name = "spf"

        @hook
        def smtp_mail(self, transaction: Any) -> None:
            seen.append(transaction.sender)

        @hook
        def smtp_rcpt(self, recipient: Any) -> None:
            seen.append(recipient.address)

    write(home, rcpthosts="пример.рф")
    said(talk(home, make_plugin(Watcher)), "MAIL FROM:<дом@пример.рф> SMTPUTF8", "RCPT TO:<joe@пример.рф>")
    assert seen == [DOM.encode(), b"joe@xn--e1afmkfd.xn--p1ai"]


def test_mail_of_this_host_gets_the_known_form_too(home: Home) -> None:
    write(home, locals="пример.рф")
    there = "joe@ПРИМЕР.рф", "joe@xn--e1afmkfd.xn--p1ai", "joe@faß.example", "Joe@Example.NET", "d\udcf6@example.org"
    envelope = Envelope(b"a@example.org", [one.encode("utf-8", "surrogateescape") for one in there])
    make_plugin(Eai, home=home, role="queue").queue_envelope(envelope)
    assert [one.decode("utf-8", "surrogateescape") for one in envelope.recipients] == [
        "joe@пример.рф", "joe@пример.рф", "joe@xn--fa-hia.example", "Joe@Example.NET", "d\udcf6@example.org",
    ]  # fmt: skip


# -- out


def delivery(sender: str = "a@b", recipient: str = "c@d", header: str = "A: 1\n") -> Delivery:
    message = Message.from_bytes(header.encode("utf-8", "surrogateescape") + "\nтело\n".encode())
    return Delivery("remote", 1, sender.encode(), [recipient.encode()], recipient.encode().rpartition(b"@")[2], message)


@pytest.mark.parametrize(
    ("given", "need", "when_strict"),
    [
        (delivery(), None, None),
        (delivery(sender="дом@b"), Need.ADDRESSES, Need.ADDRESSES),
        (delivery(recipient="дом@d"), Need.ADDRESSES, Need.ADDRESSES),
        (delivery(header=f"{BY_UTF8}Subject: plain\n"), None, None),
        (delivery(header=f"{BY_UTF8}Subject: тема\n"), Need.HEADER, Need.HEADER),
        (delivery(header=f"{BY_SMTP}Subject: тема\n"), None, Need.HEADER),
        (delivery(header="Subject: тема\n"), None, Need.HEADER),
        (delivery(header=f"{BY_UTF8}Subject: \udce9\n"), None, None),
        (delivery(header="Subject: тема with UTF8SMTP\n"), None, Need.HEADER),
        (
            delivery(header=f"{BY_SMTP}Received: from a by b\n\twith\n utf8smtp; x\nSubject: тема\n"),
            Need.HEADER,
            Need.HEADER,
        ),
    ],
)
def test_what_needs_the_extension_is_read_off_the_message(given: Delivery, need: Any, when_strict: Any) -> None:
    assert (need_of(given, strict=False), need_of(given, strict=True)) == (need, when_strict)


def test_hosts_are_looked_up_by_a_labels_and_a_domain_alone_needs_nothing() -> None:
    one = delivery("ann@пример.рф", "joe@bücher.example")
    plugin = make_plugin(Eai, role="remote")
    plugin.remote_envelope(one)
    assert (one.sender, one.recipients, one.host) == (
        b"ann@xn--e1afmkfd.xn--p1ai",
        [b"joe@xn--bcher-kva.example"],
        b"xn--bcher-kva.example",
    )
    assert plugin.remote_mail(one, peer()) is None
    assert plugin.remote_params(one, peer(b"SMTPUTF8")) == []


def peer(*capabilities: bytes) -> Any:
    return SimpleNamespace(address="192.0.2.1", capabilities=dict.fromkeys(capabilities))


def test_a_host_that_offers_it_is_told() -> None:
    one, plugin = delivery("дом@b"), make_plugin(Eai, role="remote")
    for offered, told in (
        ((b"SMTPUTF8",), [b"SMTPUTF8"]),
        ((b"SMTPUTF8", b"8BITMIME"), [b"BODY=8BITMIME", b"SMTPUTF8"]),
    ):
        assert plugin.remote_mail(one, peer(*offered)) is None
        assert plugin.remote_params(one, peer(*offered)) == told


@pytest.mark.parametrize(
    ("given", "code", "what"),
    [(delivery("дом@b"), "5.6.7", "addresses"), (delivery(header=f"{BY_UTF8}From: дом\n"), "5.6.9", "header fields")],
)
def test_a_host_that_does_not_offer_it_gets_nothing(given: Delivery, code: str, what: str) -> None:
    verdict = make_plugin(Eai, role="remote").remote_mail(given, peer(b"8BITMIME"))
    assert verdict.enhanced == code
    assert verdict.text == (
        f"Connected to 192.0.2.1 but it does not offer SMTPUTF8, which the {what} of this message need."
    )


class TestConformance(Conformance):
    plugin = Eai
