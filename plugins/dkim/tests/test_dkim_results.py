"""dkim: what the hooks make of what was found: results, refusals and DKIM-Status."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pluq import AuthResult, Defer, Message, Reject, Session, Transaction
from pluq.dns import Resolver
from pluq.hookspecs import Login
from pluq.signatures.finding import Code, Finding
from pluq.signatures.keys import SigningKey
from pluq.smtpd.results import render
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin
from pluq.testing.signatures import BODY, HEADER, NOW, key_record, signed
from pluq_dkim import Dkim

RSA = SigningKey("s", rsa.generate_private_key(65537, 2048))


def sign(**changes: str) -> bytes:
    return signed(RSA, **changes)


def test_nothing_that_a_signature_says_gets_into_the_results_as_another_result() -> None:
    from pluq_dkim.judge import as_result

    found = Finding(Code.BAD_ALGORITHM, 'x; dkim=pass header.d="bank.test', "good.test", "s", "a b;c@good.test")
    line = render("mx.example.org", [as_result(found)])
    assert line.count(b"dkim=") == 2  # the second one stands within the quotes of the reason
    assert b";\n\tdkim=policy reason=" in line
    assert line.count(b"\n") == 2


async def ask(message: bytes, session: Session | None = None, **settings: Any) -> tuple[Any, Transaction, Message]:
    """Run the hooks of one message at the time of its signature."""
    with FakeDns(
        {"s._domainkey.good.test": [("TXT", key_record(RSA))], "slow._domainkey.good.test": Fault.SERVFAIL}
    ) as server:
        resolver = Resolver([server.address])
        plugin = make_plugin(Dkim, resolver=lambda: resolver, **settings)
        plugin.clock = lambda: NOW
        given = session or Session(), Transaction(b"joe@good.test"), Message.from_bytes(message)
        results = await plugin.message_verify(*given)
        given[1].results.extend(results or ())
        answer = plugin.message_decide(*given)
        plugin.message_edit(*given)
        await resolver.close()
    return answer, given[1], given[2]


async def test_results_say_which_domain_answers_and_by_which_signature() -> None:
    answer, transaction, _ = await ask(sign(i="joe@good.test"))
    assert answer is None
    (found,) = transaction.results
    assert (found.method, found.result, found.domain, found.reason) == ("dkim", "pass", "good.test", "")
    properties = {name: value for _, name, value in found.properties}
    assert properties.items() >= {"d": "good.test", "s": "s", "i": "joe@good.test", "a": "rsa-sha256"}.items()
    assert len(properties["b"]) == 8


async def test_a_message_without_signature_has_the_result_none() -> None:
    _, transaction, _ = await ask(HEADER + b"\n" + BODY)
    assert transaction.results == [AuthResult("dkim", "none")]


@pytest.mark.parametrize("session", [Session(environment={"RELAYCLIENT": ""}), Session(login=Login(b"joe", "plain"))])
async def test_clients_that_may_relay_or_logged_in_are_not_verified(session: Session) -> None:
    answer, transaction, _ = await ask(sign() + b"changed\n", session, fail="reject")
    assert (answer, transaction.results) == (None, [])


BAD = sign() + b"changed\n"
SLOW = sign(s="slow")
THIRD_PARTY = signed(RSA, HEADER.replace(b"joe@good", b"joe@bank"))
OF_SUBDOMAIN = signed(RSA, HEADER.replace(b"joe@good", b"joe@sub.good"))
ALL_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXY"


@pytest.mark.parametrize(
    ("message", "settings", "answer"),
    [
        (BAD, {}, None),
        (BAD, {"fail": "reject"}, Reject),
        (BAD, {"fail": "defer"}, Defer),
        (sign(), {"fail": "reject"}, None),
        (HEADER + b"\n", {"fail": "reject"}, None),
        (BAD, {"letters": "U"}, Reject),
        (BAD, {"letters": "u"}, Defer),
        (BAD, {"letters": "EFGHIJKLMNOPQRSTVWXY"}, None),
        (BAD, {"letters": "FGHKLMNOQRTVWp"}, None),
        (HEADER + b"\n", {"letters": "S"}, Reject),
        (HEADER + b"\n", {"letters": "FGHKLMNOQRTVWp"}, None),
        (sign(), {"letters": "FGHKLMNOQRTVWp"}, None),
        (sign(v="2"), {"letters": "FGHKLMNOQRTVWp"}, Reject),
        (SLOW, {"letters": "FGHKLMNOQRTVWp"}, Defer),
        (SLOW, {"letters": "P"}, Defer),
        (sign(), {"letters": ALL_LETTERS.replace("A", "")}, None),
        (sign(), {"letters": "A"}, Reject),
        (THIRD_PARTY, {"letters": "F"}, Reject),
        (THIRD_PARTY, {"letters": ALL_LETTERS.replace("F", "")}, None),
        (THIRD_PARTY, {"fail": "reject"}, None),
        (OF_SUBDOMAIN, {"letters": "F"}, None),
        (sign(a="rsa-sha1"), {"letters": ALL_LETTERS}, None),
        (sign(a="rsa-md5"), {"letters": "H"}, Reject),
        (sign(t=str(NOW + 10**6)), {"letters": ALL_LETTERS}, None),
        (sign().replace(b"\nFrom:", b"\nSubject: buy\nFrom:", 1), {"letters": ALL_LETTERS}, None),
        (SLOW, {"fail": "reject"}, Defer),
        (BAD, {"fail": "reject", "nosignaturedomains": ("Good.test",)}, None),
        (BAD, {"fail": "reject", "nosignaturedomains": ("*",)}, None),
        (BAD, {"fail": "reject", "nosignaturedomains": ("*",), "signaturedomains": ("good.test",)}, Reject),
    ],
)
async def test_a_refusal_is_what_the_site_asked_for(
    message: bytes, settings: dict[str, Any], answer: type | None
) -> None:
    found = (await ask(message, **settings))[0]
    assert found is None if answer is None else isinstance(found, answer)


async def test_a_refusal_speaks_as_qmail_dkim_does() -> None:
    sentence = "qmail-dkim: signature verify error: message body does not hash to bh value"
    assert (await ask(BAD, fail="reject"))[0] == Reject(554, "5.7.7", sentence)
    wrong_version = Reject(554, "5.7.6", "qmail-dkim: signature error: incompatible v=")
    assert (await ask(sign(v="2"), letters="W"))[0] == wrong_version
    assert (await ask(HEADER + b"\n", letters="S"))[0] == Reject(554, "5.7.5", "qmail-dkim: no signatures")
    session = Session(environment={"DKIMVERIFY": "u"})
    assert (await ask(BAD, session))[0] == Defer(451, "4.7.7", sentence)


async def test_one_good_signature_is_enough() -> None:
    field = sign(s="gone")
    both = field[: field.index(b"\nFrom:") + 1] + sign()
    assert (await ask(both, fail="reject", letters="GHIKLQT"))[0] is None


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (sign(), b"DKIM-Status: good\n"),
        (THIRD_PARTY, b"DKIM-Status: good (signature result: 3rd-party signature)\n"),
        (BAD, b"DKIM-Status: bad (signature verify error: message body does not hash to bh value)\n"),
        (SLOW, b"DKIM-Status: no key (signature error: temporary dns failure requesting selector)\n"),
        (sign(v="2"), b"DKIM-Status: bad format (signature error: incompatible v=)\n"),
        (HEADER + b"\n", b"DKIM-Status: no signature (no signatures)\n"),
    ],
)
async def test_dkim_status_is_written_where_the_site_wants_it_and_never_the_senders(
    message: bytes, line: bytes
) -> None:
    forged = message.replace(b"To:", b"DKIM-Status: good        \nTo:", 1)
    assert (await ask(forged, status_field=True))[2].as_bytes().count(b"DKIM-Status: ") == 1
    assert (await ask(message, status_field=True))[2].as_bytes().startswith(line)
    assert (await ask(message))[2].prepended == []
