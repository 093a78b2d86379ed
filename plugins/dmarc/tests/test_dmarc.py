"""dmarc: who is asked for a policy, what speaks for an author, and what becomes of mail that nobody speaks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pluq import AuthResult, Defer, Message, Plugin, Reject, Session, Transaction, Verdict, hook
from pluq.dns import Budget, Resolver
from pluq.hookspecs import Login
from pluq.smtpd.results import render
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk
from pluq_dmarc import Dmarc
from pluq_dmarc.commands import describe
from pluq_dmarc.discover import Finder, targets
from pluq_dmarc.evaluate import Identifier, evaluate
from pluq_dmarc.record import Record, parse_record

ZONE: Mapping[str, Any] = {
    "_dmarc.reject.test": [("TXT", "v=DMARC1; p=reject")],
    "_dmarc.quarantine.test": [("TXT", "v=DMARC1; p=quarantine")],
    "_dmarc.none.test": [("TXT", "v=DMARC1; p=none; rua=mailto:a@none.test")],
    "_dmarc.strict.test": [("TXT", "v=DMARC1; p=reject; adkim=s; aspf=s")],
    "_dmarc.sub.test": [("TXT", "v=DMARC1; p=none; sp=quarantine; np=reject")],
    "there.sub.test": [("MX", (10, "mx.test"))],
    "_dmarc.trying.test": [("TXT", "v=DMARC1; p=reject; t=y")],
    "_dmarc.partly.test": [("TXT", "v=DMARC1; p=quarantine; pct=50")],
    "_dmarc.two.test": [("TXT", "v=DMARC1; p=reject"), ("TXT", "v=DMARC1; p=none")],
    "_dmarc.noise.test": [("TXT", "something else"), ("TXT", "v=DMARC1; p=reject")],
    "_dmarc.suffix.test": [("TXT", "v=DMARC1; p=none; np=reject; psd=y")],
    "_dmarc.own.suffix.test": [("TXT", "v=DMARC1; p=quarantine")],
    "_dmarc.branch.big.test": [("TXT", "v=DMARC1; p=reject; psd=n")],
    "_dmarc.big.test": [("TXT", "v=DMARC1; p=none")],
    "_dmarc.temp.test": Fault.SERVFAIL,
}


async def find(author: str, *known: tuple[str, str, str], zone: Mapping[str, Any] = ZONE) -> tuple[str, str]:
    """Return result and policy for an author, given what SPF and DKIM found."""
    with FakeDns(zone) as server:
        resolver = Resolver([server.address])
        finder = Finder(resolver, Budget(60, 20.0))
        found = await evaluate(author, [Identifier(*one) for one in known], finder)
        await resolver.close()
    return found.result, found.policy


# -- whose policy


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("reject.test", ("fail", "reject")),
        ("a.b.reject.test", ("fail", "reject")),
        ("nowhere.test", ("none", "")),
        ("test", ("none", "")),
        ("sub.test", ("fail", "none")),
        ("there.sub.test", ("fail", "quarantine")),
        ("gone.sub.test", ("fail", "reject")),
        ("trying.test", ("fail", "quarantine")),
        ("partly.test", ("fail", "none")),
        ("two.test", ("none", "")),
        ("noise.test", ("fail", "reject")),
        ("suffix.test", ("fail", "none")),
        ("mail.gone.suffix.test", ("fail", "reject")),  # the public suffix speaks where nobody below does
        ("own.suffix.test", ("fail", "quarantine")),
        ("gone.own.suffix.test", ("fail", "quarantine")),
        ("x.branch.big.test", ("fail", "reject")),
        ("big.test", ("fail", "none")),
        ("temp.test", ("temperror", "")),
        ("a.temp.test", ("temperror", "")),
    ],
)
async def test_the_policy_is_that_of_the_author_or_of_who_is_above_him(author: str, expected: tuple[str, str]) -> None:
    assert await find(author) == expected


def test_no_name_costs_more_than_eight_questions() -> None:
    assert list(targets("a.b.c.d.e.f.g.h.i.j.mail.example.com")) == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]
    for count in range(1, 60):
        assert len(list(targets(".".join(["a"] * count)))) == min(count, 8)


# -- what speaks for him


@pytest.mark.parametrize(
    ("author", "known", "result"),
    [
        ("reject.test", ("spf", "reject.test", "pass"), "pass"),
        ("reject.test", ("dkim", "reject.test", "pass"), "pass"),
        ("reject.test", ("dkim", "mail.reject.test", "pass"), "pass"),
        ("a.reject.test", ("dkim", "b.reject.test", "pass"), "pass"),
        ("a.reject.test", ("dkim", "reject.test", "pass"), "pass"),
        ("reject.test", ("dkim", "evilreject.test", "pass"), "fail"),
        ("reject.test", ("dkim", "reject.test.evil", "pass"), "fail"),
        ("reject.test", ("dkim", "test", "pass"), "fail"),
        ("reject.test", ("spf", "none.test", "pass"), "fail"),
        ("strict.test", ("dkim", "mail.strict.test", "pass"), "fail"),
        ("strict.test", ("spf", "mail.strict.test", "pass"), "fail"),
        ("strict.test", ("spf", "strict.test", "pass"), "pass"),
        ("a.suffix.test", ("dkim", "b.suffix.test", "pass"), "fail"),  # neighbours below a public suffix
        ("a.own.suffix.test", ("dkim", "b.own.suffix.test", "pass"), "pass"),
        ("branch.big.test", ("dkim", "big.test", "pass"), "fail"),  # psd=n parts the branch from the tree
        ("big.test", ("dkim", "branch.big.test", "pass"), "fail"),
        ("reject.test", ("dkim", "mail.reject.test", "temperror"), "temperror"),
        ("reject.test", ("dkim", "other.test", "temperror"), "fail"),
        ("nowhere.test", ("dkim", "nowhere.test", "pass"), "none"),
    ],
)
async def test_an_identifier_counts_where_it_is_aligned(author: str, known: tuple[str, str, str], result: str) -> None:
    assert (await find(author, known))[0] == result


async def test_one_that_passes_outweighs_those_that_could_not_be_looked_up() -> None:
    both = ("dkim", "reject.test", "temperror"), ("spf", "reject.test", "pass")
    assert await find("reject.test", *both) == ("pass", "reject")


# -- records


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"v=DMARC1", Record()),
        (b"v=DMARC1;", Record()),
        (b"v = DMARC1 ; P = Reject ;; x=y; =; p=none", Record(p="reject")),
        (b"v=DMARC1; p=reject; adkim=S; aspf=s; t=y", Record("reject", None, None, True, True, True)),
        (b"v=DMARC1; adkim=x; t=z; psd=q; pct=x", Record()),
        (b"v=DMARC1; p=reject; pct=100", Record("reject")),
        (b"v=DMARC1; p=reject; pct=0", Record("reject", testing=True)),
        (b"v=DMARC1; p=reject; sp=quarantin; rua=mailto:a@b.test", Record(rua="mailto:a@b.test")),
        (b"v=DMARC1; p=reject; sp=quarantin", None),
        (b"v=DMARC1; p=reject; np=x; rua=https://b.test", None),
        (b"v=DMARC1; p=", None),
        (b"v=DMARC2; p=reject", None),
        (b"v=dmarc1; p=reject", None),
        (b"v=DMARC10; p=reject", None),
        (b"p=reject; v=DMARC1", None),
        (b" v=DMARC1; p=reject", None),
        (b"v=DMARC1; p=reject; " + b"x=y;" * 2000, None),
        (b"v=DMARC1; p=reject; \xff\0=\xfe", Record("reject")),
        (b"", None),
    ],
)
def test_a_record_is_read_as_the_rfc_wants_it(text: bytes, expected: Record | None) -> None:
    assert parse_record(text) == expected


# -- what is done


def results(**changes: str) -> list[AuthResult]:
    """Return what spf and dkim have found of a message that nobody speaks for."""
    said = {"spf": "fail", "spf_domain": "evil.test", "dkim": "none", "dkim_domain": ""} | changes
    return [
        AuthResult("spf", said["spf"], said["spf_domain"]),
        AuthResult("dkim", said["dkim"], said["dkim_domain"]),
    ]


async def judge(
    header: bytes,
    found: list[AuthResult] | None = None,
    session: Session | None = None,
    log: list[str] | None = None,
    **settings: Any,
) -> tuple[Verdict | None, Message, Transaction]:
    with FakeDns(ZONE) as server:
        resolver = Resolver([server.address])
        written: list[str] = [] if log is None else log
        plugin = make_plugin(Dmarc, resolver=lambda: resolver, log=written.append, **settings)
        message = Message.from_bytes(header + b"\nbody\n")
        transaction = Transaction(b"joe@evil.test", results=results() if found is None else found)
        session = session or Session(remote_ip="192.0.2.7")
        verdict = await plugin.message_decide(session, transaction, message)
        plugin.message_edit(session, transaction, message)
        await resolver.close()
    return verdict, message, transaction


def of_dmarc(transaction: Transaction) -> list[tuple[str, str]]:
    return [(one.domain, one.result) for one in transaction.results if one.method == "dmarc"]


async def test_by_default_everything_is_noted_and_nothing_refused() -> None:
    for domain in (b"reject", b"quarantine", b"none", b"two", b"temp"):
        verdict, message, _ = await judge(b"From: ann@" + domain + b".test\n")
        assert verdict is None
        assert message.prepended == []


async def test_the_result_and_the_policy_stand_in_authentication_results() -> None:
    _, _, transaction = await judge(b"From: ann@reject.test\n")
    text = render("mx.example.org", transaction.results)
    assert b"dmarc=fail header.from=reject.test policy.dmarc=reject" in text


@pytest.mark.parametrize("policy", ["none", "quarantine", "reject"])
@pytest.mark.parametrize("action", ["note", "quarantine", "reject"])
async def test_each_policy_has_its_action(policy: str, action: str) -> None:
    header = f"From: ann@{policy}.test\nX-DMARC-Quarantine: forged\n".encode()
    verdict, message, _ = await judge(header, **{f"on_{policy}": action})
    if action == "reject":
        assert isinstance(verdict, Reject)
        assert (verdict.code, f"{policy}.test" in str(verdict.text)) == (550, True)
    else:
        assert verdict is None
    marked = [b"X-DMARC-Quarantine: %s.test\n" % policy.encode()] if action == "quarantine" else []
    assert message.prepended == marked
    assert b"forged" not in message.as_bytes()


async def test_mail_that_passes_is_taken() -> None:
    found = results(dkim="pass", dkim_domain="mail.reject.test")
    verdict, _, transaction = await judge(b"From: ann@reject.test\n", found, on_reject="reject")
    assert verdict is None
    assert of_dmarc(transaction) == [("reject.test", "pass")]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"From: ann@temp.test\n", None),
        (b"From: ann@reject.test\n", results(dkim="temperror", dkim_domain="reject.test")),
        (b"From: ann@reject.test\n", results(spf="temperror", spf_domain="reject.test")),
    ],
)
async def test_a_failing_dns_never_refuses_for_good(header: bytes, found: list[AuthResult] | None) -> None:
    verdict, _, _ = await judge(header, found, on_reject="reject")
    assert isinstance(verdict, Defer)
    verdict, _, _ = await judge(header, found, on_reject="quarantine")
    assert verdict is None


async def test_a_question_of_a_milder_policy_does_not_defer() -> None:
    found = results(dkim="temperror", dkim_domain="none.test")
    verdict, _, _ = await judge(b"From: ann@none.test\n", found, on_reject="reject")
    assert verdict is None


@pytest.mark.parametrize("found", [[AuthResult("spf", "fail", "evil.test")], [AuthResult("dkim", "none")]])
async def test_without_results_of_both_nothing_fails(found: list[AuthResult]) -> None:
    log: list[str] = []
    verdict, _, transaction = await judge(b"From: ann@reject.test\n", found, log=log, on_reject="reject")
    assert verdict is None
    assert of_dmarc(transaction) == []
    assert "nothing can fail" in log[0]


async def test_one_result_is_enough_for_a_pass() -> None:
    found = [AuthResult("dkim", "pass", "reject.test")]
    _, _, transaction = await judge(b"From: ann@reject.test\n", found)
    assert of_dmarc(transaction) == [("reject.test", "pass")]


@pytest.mark.parametrize(
    "entry", ["192.0.2.7", "192.0.2.0/24", "lists.test", "2001:db8::/32"], ids=["address", "network", "domain", "other"]
)
async def test_a_trusted_forwarder_is_noted_and_not_refused(entry: str) -> None:
    found = results(dkim="pass", dkim_domain="a.lists.test")
    verdict, _, transaction = await judge(
        b"From: ann@reject.test\n", found, on_reject="reject", trusted_forwarders=(entry,)
    )
    assert of_dmarc(transaction) == [("reject.test", "fail")]
    assert isinstance(verdict, Reject) == (entry == "2001:db8::/32")
    assert (transaction.results[-1].reason == "trusted forwarder") == (entry != "2001:db8::/32")


@pytest.mark.parametrize("result", ["pass", "fail"])
async def test_a_forwarder_is_trusted_that_has_sealed_an_unbroken_chain(result: str) -> None:
    found = [*results(), AuthResult("arc", result, "Lists.test")]
    verdict, _, _ = await judge(
        b"From: ann@reject.test\n", found, on_reject="reject", trusted_forwarders=("lists.test",)
    )
    assert isinstance(verdict, Reject) == (result == "fail")


async def test_a_domain_is_not_trusted_because_it_says_so() -> None:
    found = results(spf="fail", spf_domain="lists.test", dkim="fail", dkim_domain="lists.test")
    verdict, _, _ = await judge(
        b"From: ann@reject.test\n", found, on_reject="reject", trusted_forwarders=("lists.test",)
    )
    assert isinstance(verdict, Reject)


def test_a_forwarder_that_is_none_is_an_error_of_the_configuration() -> None:
    plugin = make_plugin(Dmarc, trusted_forwarders=("192.0.2.0/24", "lists.test", "no such thing", "300.1.1.1"))
    assert [complaint.split("'")[1] for complaint in plugin.check()] == ["no such thing", "300.1.1.1"]


async def test_clients_that_may_relay_or_logged_in_are_not_looked_at() -> None:
    for session in (Session(environment={"RELAYCLIENT": ""}), Session(login=Login(b"joe", "plain"))):
        verdict, _, transaction = await judge(b"From: ann@reject.test\n", session=session, on_reject="reject")
        assert verdict is None
        assert of_dmarc(transaction) == []


# -- authors that are not what they seem

FORGED = [
    b"From: x@evil.test\nFrom: ann@reject.test\n",
    b"From: ann@reject.test\nFrom: x@evil.test\n",
    b"from : x@evil.test\nFROM\t: ann@reject.test\n",
    b"From: x@evil.test, ann@reject.test\n",
    b"From: friends: x@evil.test, Ann <ann@reject.test>;\n",
    b"From: ann@reject.test <x@evil.test>\n",
    b"From: <ann@reject.test> <x@evil.test>\n",
    b"From: <@reject.test:x@evil.test>\n",
    b"From: x@evil.test\n ,ann@reject.test\n",
    b"From:\n ann@reject.test\n",
    b'From: "unclosed <ann@reject.test>\n',
    b"From: (unclosed <ann@reject.test>\n",
    b'From: "a\\" <ann@reject.test>\n',
    b'From: "x@evil.test"@reject.test\n',
    b"From: ann (x@evil.test) @ (comment) reject . test\n",
    b"From: 'ann@reject.test'\n",
    b"From: ann@REJECT.Test.\n",
    b"Subject: x\nno field\nFrom: ann@reject.test\n",
    b"Subject: x\r From: nobody\rFrom: ann@reject.test\n",
    b"From: x@evil.test\nX: \r\nFrom: ann@reject.test\n",
    "From: ann@ｒｅｊｅｃｔ．test\n".encode(),  # full-width letters mean the same domain
    b"From: ann@[192.0.2.1]\n",
    b"From: ann@192.0.2.1\n",
    b"From: ann@=?utf-8?q?reject.test?=\n",
    b"From: ann@" + b"a" * 64 + b".test\n",
    b"From: ann@rej\0ect.test\n",
    b"From: ann@reject..test\n",
    "From: ann@\u2024test\n".encode(),
    b"From: " + b", ".join(b"a@d%d.test" % index for index in range(9)) + b"\n",
    b"From: x@evil.test\n" + b"X: y\n" * 220_000 + b"From: ann@reject.test\n",  # beyond what is read of a header
]


@pytest.mark.parametrize("header", FORGED, ids=range(len(FORGED)))
async def test_a_forger_cannot_hide_his_author_from_the_policy(header: bytes) -> None:
    verdict, _, _ = await judge(header, on_reject="reject")
    assert isinstance(verdict, Reject), header


HONEST = [
    b"From: x@nowhere.test\n",
    b'From: "ann@reject.test" <x@nowhere.test>\n',
    b"From: x@nowhere.test (ann@reject.test)\n",
    b"From: =?utf-8?q?ann@reject.test?= <x@nowhere.test>\n",
    b"From: Ann @ Work <x@nowhere.test>\n",
    b"From: Ann @ <x@nowhere.test>\n",
    b"From: MAILER-DAEMON\n",
    b"From: undisclosed:;\n",
    b"From:\n",
    b"Subject: no author\n",
    b"Resent-From: ann@reject.test\nFrom: x@nowhere.test\n",
    b"X-From: ann@reject.test\nFrom: x@nowhere.test\n",
    b"Subject: x\n From: ann@reject.test\n",
    "From: ann@b\u00fccher.test\n".encode(),
    b"",
]


@pytest.mark.parametrize("header", HONEST)
async def test_an_honest_author_is_not_taken_for_another(header: bytes) -> None:
    verdict, _, transaction = await judge(header, on_reject="reject")
    assert verdict is None
    assert {result for _, result in of_dmarc(transaction)} == {"none"}


async def test_a_u_label_is_looked_up_as_an_a_label() -> None:
    _, _, transaction = await judge("From: ann@b\u00fccher.test\n".encode())
    assert of_dmarc(transaction) == [("xn--bcher-kva.test", "none")]


async def test_every_author_has_his_own_result() -> None:
    found = results(dkim="pass", dkim_domain="none.test")
    _, _, transaction = await judge(b"From: a@none.test, b@reject.test\n", found)
    assert of_dmarc(transaction) == [("none.test", "pass"), ("reject.test", "fail")]


async def test_the_questions_for_one_message_are_bounded() -> None:
    names = [b".".join(b"%d" % (author * 10 + label) for label in range(9)) + b".test" for author in range(8)]
    header = b"From: " + b", ".join(b"a@" + name for name in names) + b"\n"
    with FakeDns(ZONE) as server:
        resolver = Resolver([server.address])
        plugin = make_plugin(Dmarc, resolver=lambda: resolver, on_reject="reject")
        transaction = Transaction(b"", results=results())
        verdict = await plugin.message_decide(Session(), transaction, Message.from_bytes(header + b"\n"))
        await resolver.close()
        assert len(server.queries) <= 60
    assert isinstance(verdict, Defer)  # too much to look up is no reason to refuse for good


# -- in a session


class Finds(Plugin[Any]):
    """Stands for spf and dkim."""

    name = "finds"

    @hook
    def message_verify(self, session: Session, transaction: Transaction, message: Message) -> list[AuthResult]:
        return results()


async def test_a_client_hears_the_refusal_at_the_end_of_its_message() -> None:
    with FakeDns(ZONE) as server:
        resolver = Resolver([server.address])
        plugin = make_plugin(Dmarc, resolver=lambda: resolver, on_reject="reject")
        talk = Talk(plan=plan_of(plugin, Finds()))
        for line in ("EHLO x", "MAIL FROM:<joe@evil.test>", "RCPT TO:<joe@example.org>", "DATA"):
            said = await talk.ask(line)
        assert said.startswith("354")
        assert (await talk.ask("From: ann@reject.test\r\n\r\nhello\r\n.")).startswith(
            "550 rejected by the DMARC policy"
        )
        assert talk.queue.messages == []
        await talk.ask("MAIL FROM:<joe@evil.test>")
        await talk.ask("RCPT TO:<joe@example.org>")
        await talk.ask("DATA")
        assert (await talk.ask("From: ann@none.test\r\n\r\nhello\r\n.")).startswith("250")
        await resolver.close()
    assert b"dmarc=fail header.from=none.test" in talk.queue.messages[0].message


async def test_the_command_says_what_is_wanted_of_a_domain() -> None:
    with FakeDns(ZONE) as server:
        resolver = Resolver([server.address])
        finder = Finder(resolver, Budget(20, 20.0))
        policy = await finder.policy("a.trying.test")
        assert describe("a.trying.test", policy, await finder.organizational("a.trying.test")) == [
            "record: _dmarc.trying.test",
            "policy: quarantine (in test mode, announced is reject)",
            "organization: trying.test",
            "alignment: SPF relaxed, DKIM relaxed",
        ]
        await resolver.close()
    assert describe("x.test", None, "x.test") == ["x.test: no DMARC record: nothing is asked for"]


class TestConformance(Conformance):
    plugin = Dmarc
