"""dkim, verifying: what is believed, and every way in which a pass would be worthless."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from pluq import AuthResult, Defer, HeaderField, Message, Reject, Session, Transaction
from pluq.dns import Resolver
from pluq.hookspecs import Login
from pluq.hookspecs.message import split_fields
from pluq.signatures.canon import header_input, sum_body
from pluq.signatures.finding import Code, Finding
from pluq.signatures.keys import SigningKey
from pluq.signatures.signature import CLOCK_SECONDS
from pluq.smtpd.results import render
from pluq.testing.clock import virtual_time
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin
from pluq_dkim import Dkim
from pluq_dkim.verify import Policy, verify_message

NOW = 1_800_000_000
RSA = SigningKey("s", rsa.generate_private_key(65537, 2048))
OTHER = SigningKey("s", rsa.generate_private_key(65537, 2048))
SHORT = SigningKey("s", rsa.generate_private_key(65537, 1024))
ED25519 = SigningKey("s", ed25519.Ed25519PrivateKey.generate())

HEADER = b"From: Joe <joe@good.test>\nTo: ann@example.org\nSubject: hello\nDate: Fri, 15 Jan 2027 08:00:00 +0000\n"
BODY = b"first\n\nlast\n"


def record(key: SigningKey, **changes: str) -> str:
    """Return the key record; a change of "-" leaves the tag out."""
    found = {"v": "DKIM1", "k": key.kind, "p": base64.b64encode(key.public_octets()).decode()} | changes
    return "; ".join(f"{name}={value}" for name, value in found.items() if value != "-")


def sign(
    header: bytes = HEADER, body: bytes = BODY, key: SigningKey = RSA, value: bytes | None = None, **changes: str
) -> bytes:
    """Return a message with a true signature over what its tags say; `more` is put behind the tags as it is."""
    more = changes.pop("more", "")
    fields = split_fields(header)
    found = {
        "v": "1",
        "a": key.algorithm,
        "c": "relaxed/relaxed",
        "d": "good.test",
        "s": "s",
        "t": str(NOW),
        "h": "from:to:subject:date",
    } | changes
    header_form, _, body_form = found["c"].partition("/")
    length = int(found["l"]) if found.get("l", "").isdigit() else None
    digest = sum_body([body], [(body_form or "simple", length)])[body_form or "simple", length].digest
    found.setdefault("bh", base64.b64encode(digest).decode())
    tags = "; ".join(f"{name}={text}" for name, text in found.items() if text != "-")
    unsigned = HeaderField(b"dkim-signature", f"DKIM-Signature: {tags}{more}; b=\n".encode())
    names = [name.strip().lower().encode() for name in found["h"].split(":")]
    octets = header_input(fields, names, unsigned, header_form)
    b = base64.b64encode(value or key.sign(octets))
    return unsigned.raw[:-1] + b + b"\n" + header + b"\n" + body


async def verify(message: bytes, zone: Mapping[str, Any] | None = None, policy: Policy | None = None) -> list[Finding]:
    records = {"s._domainkey.good.test": [("TXT", record(RSA))]} | dict(zone or {})
    with FakeDns(records) as server:
        resolver = Resolver([server.address])
        try:
            return await verify_message(Message.from_bytes(message), resolver, policy or Policy(), NOW)
        finally:
            await resolver.close()


async def code_of(message: bytes, key_record: str | None = None, **policy: Any) -> Code:
    zone = {} if key_record is None else {"s._domainkey.good.test": [("TXT", key_record)]}
    (found,) = await verify(message, zone, Policy(**policy))
    return found.code


# -- what is good


@pytest.mark.parametrize("form", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "relaxed"])
@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
async def test_a_true_signature_passes(form: str, key: SigningKey) -> None:
    assert await code_of(sign(c=form, key=key), record(key)) is Code.GOOD


@pytest.mark.parametrize(
    "changes",
    [
        {"l": str(len(BODY.replace(b"\n", b"\r\n")))},
        {"i": "joe@good.test"},
        {"i": "@sub.Good.test"},
        {"d": "GOOD.test"},
        {"q": "dns/txt"},
        {"q": "http/x:dns/txt"},
        {"x": str(NOW + 10)},
        {"x": str(NOW - CLOCK_SECONDS + 1), "t": str(NOW - 1000)},
        {"t": "-"},
        {"c": "-", "bh": base64.b64encode(hashlib.sha256(BODY.replace(b"\n", b"\r\n")).digest()).decode()},
        {"h": "From : To:\n\tSubject: Date :nowhere"},
        {"h": "from:from:subject:subject:date:to"},
        {"zzz": "whatever"},
    ],
)
async def test_what_the_rfc_allows_passes(changes: dict[str, str]) -> None:
    form = {"c": "simple/simple"} | changes if changes.get("c") == "-" else changes
    if form is not changes:
        message = sign(**{**changes, "c": "simple/simple"}).replace(b"c=simple/simple; ", b"")
        assert (await code_of(message)) is Code.BAD_SIGNATURE  # c= was signed: taking it out is a change
        return
    assert await code_of(sign(**changes)) is Code.GOOD


@pytest.mark.parametrize("identity", ["дом@пример.test", "дом@xn--e1afmkfd.test", "@sub.ПРИМЕР.test"])
async def test_names_may_be_in_any_script(identity: str) -> None:
    zone = {"xn--j1ac0b1a._domainkey.xn--e1afmkfd.test": [("TXT", record(RSA))]}
    (found,) = await verify(sign(d="пример.test", s="ключ", i=identity), zone)
    assert (found.code, found.domain, found.selector) == (Code.GOOD, "xn--e1afmkfd.test", "xn--j1ac0b1a")


@pytest.mark.parametrize(
    "text",
    [
        record(RSA, v="-"),
        record(RSA, k="-"),
        record(RSA, h="sha1:sha256"),
        record(RSA, s="email"),
        record(RSA, s="other:*"),
        record(RSA, t="s"),
        record(RSA, n="a note", g=""),
        record(RSA) + ";",
        record(RSA).replace("MII", "M I\tI"),
    ],
)
async def test_a_key_record_may_say_so(text: str) -> None:
    assert await code_of(sign(), text) is Code.GOOD


async def test_every_signature_has_its_own_result() -> None:
    good = sign()
    bad = sign(key=OTHER, d="other.test")
    field = bad[: bad.index(b"\nFrom:") + 1]
    found = await verify(field + good, {"s._domainkey.other.test": [("TXT", record(RSA))]})
    assert [(one.code, one.domain) for one in found] == [(Code.BAD_SIGNATURE, "other.test"), (Code.GOOD, "good.test")]


async def test_a_message_without_signatures_has_no_findings_and_asks_nobody() -> None:
    assert await verify(HEADER + b"\n" + BODY) == []


# -- what is not believed, although the arithmetic is right


def signed_twice(name: str, text: str) -> bytes:
    return sign(more=f"; {name}={text}")


HOSTILE: dict[str, tuple[bytes, Code]] = {
    "from is not signed": (sign(h="to:subject:date"), Code.UNSIGNED_FROM),
    "a second from on top": (
        sign().replace(b"\nFrom:", b"\nFrom: ceo@bank.test\nFrom:", 1),
        Code.UNSIGNED_FROM,
    ),
    "a second from at the bottom": (
        sign().replace(b"\n\nfirst", b"\nFrom: ceo@bank.test\n\nfirst"),
        Code.UNSIGNED_FROM,
    ),
    "a second subject on top": (sign().replace(b"\nFrom:", b"\nSubject: buy\nFrom:", 1), Code.DOUBLED),
    "a second content-type": (
        sign(header=HEADER + b"Content-Type: text/plain\n", h="from:content-type").replace(
            b"\nFrom:", b"\nContent-Type: text/html\nFrom:", 1
        ),
        Code.DOUBLED,
    ),
    "a field that was oversigned is added": (
        sign(h="from:to:subject:date:reply-to").replace(b"\nFrom:", b"\nReply-To: x@evil.test\nFrom:", 1),
        Code.BAD_SIGNATURE,
    ),
    "text appended behind l=": (sign(l="7") + b"buy now\n", Code.PARTIAL_BODY),
    "l=0": (sign(l="0"), Code.PARTIAL_BODY),
    "l= beyond the body": (sign(l="700"), Code.SHORT_BODY),
    "l= is no number": (sign(l="-1"), Code.BAD_SYNTAX),
    "l= of 77 digits": (sign(l="1" * 77), Code.BAD_SYNTAX),
    "i= suffix trick": (sign(i="@evilgood.test"), Code.BAD_IDENTITY),
    "i= of the parent": (sign(i="@test", d="good.test"), Code.BAD_IDENTITY),
    "i= elsewhere": (sign(i="joe@evil.test"), Code.BAD_IDENTITY),
    "i= without at": (sign(i="good.test"), Code.BAD_SYNTAX),
    "i= two ats": (sign(i="joe@good.test@evil.test"), Code.BAD_IDENTITY),
    "expired": (sign(t=str(NOW - 9999), x=str(NOW - CLOCK_SECONDS - 1)), Code.EXPIRED),
    "from the future": (sign(t=str(NOW + CLOCK_SECONDS + 1)), Code.FUTURE),
    "expires before it was made": (sign(x=str(NOW - 1)), Code.BAD_SYNTAX),
    "t= is no number": (sign(t="soon"), Code.BAD_SYNTAX),
    "version 2": (sign(v="2"), Code.BAD_VERSION),
    "no version": (sign(v="-"), Code.BAD_SYNTAX),
    "no selector": (sign(s="-"), Code.BAD_SYNTAX),
    "no body hash": (sign().replace(b"bh=", b"bx="), Code.BAD_SYNTAX),
    "empty d=": (sign(d=""), Code.BAD_SYNTAX),
    "d= twice": (signed_twice("d", "good.test"), Code.BAD_SYNTAX),
    "b= twice": (signed_twice("b", "AAAA"), Code.BAD_SYNTAX),
    "h= twice": (signed_twice("h", "from"), Code.BAD_SYNTAX),
    "h= with an empty name": (sign(h="from::to"), Code.BAD_SYNTAX),
    "unknown form": (sign().replace(b"relaxed/relaxed", b"relaxed/nowsp"), Code.BAD_SYNTAX),
    "unknown query method": (sign(q="dns/srv"), Code.BAD_SYNTAX),
    "unknown algorithm": (sign(a="rsa-md5"), Code.BAD_ALGORITHM),
    "bad base64": (sign().replace(b"; b=", b"; b=!"), Code.BAD_SYNTAX),
    "a tag without value": (sign(more="; x"), Code.BAD_SYNTAX),
    "an empty label": (sign(d="a..рф"), Code.BAD_SYNTAX),
    "letters where no name is": (sign(more="; x=é"), Code.BAD_SYNTAX),
    "digits of another script": (sign(t="١"), Code.BAD_SYNTAX),
    "NUL": (sign(more="; x=\0"), Code.BAD_SYNTAX),
    "result injection through i=": (sign(i='x";dkim=pass@good.test'), Code.BAD_SYNTAX),
    "result injection through d=": (sign(d="good.test header.d=bank.test"), Code.BAD_SYNTAX),
    "a path in s=": (sign(s="../../etc"), Code.BAD_SYNTAX),
    "a name too long for DNS": (sign(s=".".join(["x" * 60] * 4)), Code.NO_KEY),
    "body changed": (sign() + b"more\n", Code.BODY_CHANGED),
    "subject changed": (sign().replace(b"hello", b"hallo"), Code.BAD_SIGNATURE),
    "b= left in": (sign(value=b"x" * 256), Code.BAD_SIGNATURE),
    "signature of another length": (sign(value=b"x"), Code.BAD_SIGNATURE),
    "a field of a megabyte": (sign(more="; x=" + "y" * 20000), Code.BAD_SYNTAX),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_worthless_signature_is_not_believed(name: str) -> None:
    message, expected = HOSTILE[name]
    assert await code_of(message) is expected
    assert expected.result != "pass"


async def test_rsa_sha1_is_refused_although_it_verifies() -> None:
    octets = header_input(
        split_fields(HEADER),
        [b"from"],
        HeaderField(
            b"dkim-signature",
            b"DKIM-Signature: v=1; a=rsa-sha1; c=relaxed/relaxed; d=good.test; s=s; h=from; bh=; b=\n",
        ),
        "relaxed",
    )
    assert isinstance(RSA.key, rsa.RSAPrivateKey)
    value = RSA.key.sign(octets, padding.PKCS1v15(), SHA1())
    assert await code_of(sign(a="rsa-sha1", value=value)) is Code.BAD_ALGORITHM


def elliptic() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


# 512-bit key, no longer possible to make with the library.
P512 = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMLM5z1GMoYwrwBxU4fUnVoqoDMj8iLVGLR8wDJCD1bzAJSlYZ2nDYBSXUnVAVUaOFJZCzLRTWzJZUtuiZk0VIkCAwEAAQ=="

RECORDS: dict[str, tuple[str, Code]] = {
    "short key": (record(RSA, p=P512), Code.WEAK_KEY),
    "no key": (record(RSA, p=""), Code.REVOKED),
    "key is not base64": (record(RSA, p="!!!"), Code.BAD_KEY),
    "key is not DER": (record(RSA, p="AAAA"), Code.BAD_KEY),
    "key of another kind in it": (record(RSA, p=elliptic()), Code.BAD_KEY),
    "hash": (record(RSA, h="sha1"), Code.WRONG_ALGORITHM),
    "service": (record(RSA, s="tlsrpt"), Code.BAD_RECORD),
    "k= unknown": (record(RSA, k="dsa"), Code.BAD_RECORD),
    "k= is not that of a=": (record(ED25519), Code.WRONG_ALGORITHM),
    "version": (record(RSA, v="DKIM2"), Code.BAD_RECORD),
    "version is not first": (record(RSA, v="-") + "; v=DKIM1", Code.BAD_RECORD),
    "a tag twice": (record(RSA) + "; t=s; t=s", Code.BAD_RECORD),
    "another key": (record(OTHER), Code.BAD_SIGNATURE),
    "another record": ("v=spf1 -all", Code.NO_KEY),
    "garbage": ("p=\0", Code.BAD_RECORD),
}


@pytest.mark.parametrize("name", RECORDS)
async def test_a_key_that_was_not_meant_for_this_is_not_used(name: str) -> None:
    text, expected = RECORDS[name]
    assert await code_of(sign(), text) is expected


async def test_a_strict_key_wants_the_domain_itself_in_i() -> None:
    assert await code_of(sign(i="@sub.good.test"), record(RSA, t="s")) is Code.STRICT_IDENTITY
    assert await code_of(sign(i="joe@good.test"), record(RSA, t="y:s")) is Code.TESTING


async def test_a_key_of_1024_bits_is_enough() -> None:
    assert await code_of(sign(key=SHORT), record(SHORT)) is Code.GOOD


async def test_a_domain_that_tests_is_not_blamed() -> None:
    assert await code_of(sign() + b"more\n", record(RSA, t="y")) is Code.FAILED_TESTING
    assert await code_of(sign(key=OTHER), record(RSA, t="y")) is Code.FAILED_TESTING


async def test_two_records_are_no_key() -> None:
    zone = {"s._domainkey.good.test": [("TXT", record(RSA)), ("TXT", record(OTHER))]}
    assert [one.code for one in await verify(sign(), zone)] == [Code.BAD_RECORD]


async def test_a_key_for_ed25519_is_not_taken_for_rsa_and_the_other_way_round() -> None:
    assert await code_of(sign(a="ed25519-sha256")) is Code.WRONG_ALGORITHM
    assert await code_of(sign(key=ED25519, a="rsa-sha256"), record(ED25519)) is Code.WRONG_ALGORITHM


async def test_partial_bodies_and_unsigned_subjects_are_the_sites_choice() -> None:
    assert await code_of(sign(l="7"), accept_partial_body=True) is Code.EXTRA
    assert await code_of(sign(h="from:date")) is Code.GOOD
    assert await code_of(sign(h="from:date"), subject_needed=True) is Code.UNSIGNED_SUBJECT


# -- DNS


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.TIMEOUT, Fault.REFUSED, Fault.GARBAGE, Fault.TRUNCATED_NO_TCP])
@virtual_time
async def test_a_name_server_that_fails_is_a_temporary_error(fault: Fault) -> None:
    (found,) = await verify(sign(), {"s._domainkey.good.test": fault})
    assert (found.code, found.code.result) == (Code.DNS_FAILED, "temperror")


async def test_a_name_that_is_not_there_is_a_permanent_error() -> None:
    assert [one.code for one in await verify(sign(d="nobody.test"))] == [Code.NO_KEY]
    found = await verify(sign(), {"s._domainkey.good.test": [("CNAME", "s._domainkey.good.test")]})
    assert [one.code for one in found] == [Code.NO_KEY]


async def test_fifty_signatures_cost_eight_lookups() -> None:
    fields = b"".join(sign(s=f"s{index}")[: -len(HEADER + b"\n" + BODY)] for index in range(50))
    zone = {f"s{index}._domainkey.good.test": [("TXT", record(RSA))] for index in range(50)}
    with FakeDns(zone) as server:
        resolver = Resolver([server.address])
        found = await verify_message(Message.from_bytes(fields + HEADER + b"\n" + BODY), resolver, Policy(), NOW)
        await resolver.close()
        assert [one.code for one in found] == [Code.GOOD] * 8
        assert len(server.queries) == 8


@virtual_time
async def test_fifty_slow_selectors_are_looked_up_at_once_and_end_with_the_first() -> None:
    fields = b"".join(sign(s=f"slow{index}")[: -len(HEADER + b"\n" + BODY)] for index in range(50))
    zone = {f"slow{index}._domainkey.good.test": Fault.TIMEOUT for index in range(50)}
    with FakeDns(zone) as server:
        resolver = Resolver([server.address], timeout=1, attempts=2)
        begun = time.monotonic()
        message = Message.from_bytes(fields + HEADER + b"\n" + BODY)
        found = await verify_message(message, resolver, Policy(max_signatures=50), NOW)
        await resolver.close()
        assert time.monotonic() - begun < 5
        assert len(server.queries) <= 60
    assert {one.code for one in found} == {Code.DNS_FAILED}


async def test_the_same_key_is_asked_for_once() -> None:
    one = sign()
    field = one[: one.index(b"\nFrom:") + 1]
    with FakeDns({"s._domainkey.good.test": [("TXT", record(RSA))]}) as server:
        resolver = Resolver([server.address])
        found = await verify_message(Message.from_bytes(field * 3 + one), resolver, Policy(), NOW)
        await resolver.close()
        assert [one.code for one in found] == [Code.GOOD] * 4
        assert len(server.queries) == 1


# -- floods: time in proportion to the length


def seconds_for(message: bytes) -> float:
    """Return the CPU time of verifying a message whose key is not there."""
    begun = time.process_time()
    asyncio.run(verify(message, {"s._domainkey.good.test": [("TXT", "p=")]}))
    return time.process_time() - begun


FLOODS = {
    "blanks in the body": HEADER + b"\n" + b" " * 900_000 + b"x\n",
    "blanks and line ends in the body": HEADER + b"\n" + b" \n" * 450_000 + b"x\n",
    "tabs and blanks by turns": HEADER + b"\n" + b"\t " * 450_000 + b"x\n",
    "empty lines": HEADER + b"\n" + b"\n" * 900_000,
    "blanks in a field": b"Subject: " + b" " * 900_000 + b"x\n" + HEADER + b"\n" + BODY,
    "folds in a field": b"Subject: x" + b"\n " * 450_000 + b"x\n" + HEADER + b"\n" + BODY,
    "fields": b"Subject: x\n" * 80_000 + HEADER + b"\n" + BODY,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_takes_time_in_proportion_to_its_length(name: str) -> None:
    field = sign(h="from:" + ":".join(["subject"] * 50))
    field = field[: field.index(b"\nFrom:") + 1]
    assert seconds_for(field + FLOODS[name]) < 5


def test_a_b_tag_of_line_ends_takes_time_in_proportion_to_its_length() -> None:
    field = sign().replace(b"; b=", b"; b=" + b"\n " * 5000)  # dkimpy: a second and a half
    assert seconds_for(field) < 0.5


# -- results


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
        {"s._domainkey.good.test": [("TXT", record(RSA))], "slow._domainkey.good.test": Fault.SERVFAIL}
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
        (BAD, {"letters": "G"}, Reject),
        (BAD, {"letters": "IKLMN"}, None),
        (HEADER + b"\n", {"letters": "S"}, Reject),
        (HEADER + b"\n", {"letters": "FGHKLMNOQRTVWp"}, None),
        (sign(), {"letters": "FGHKLMNOQRTVWp"}, None),
        (sign(v="2"), {"letters": "FGHKLMNOQRTVWp"}, Reject),
        (SLOW, {"letters": "FGHKLMNOQRTVWp"}, Defer),
        (SLOW, {"letters": "P"}, Defer),
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
    assert (await ask(BAD, fail="reject"))[0] == Reject(
        554, "5.7.7", "qmail-dkim: message body does not hash to bh value"
    )
    session = Session(environment={"DKIMVERIFY": "g"})
    assert (await ask(BAD, session))[0] == Defer(451, "4.7.7", "qmail-dkim: message body does not hash to bh value")


async def test_one_good_signature_is_enough() -> None:
    field = sign(s="gone")
    both = field[: field.index(b"\nFrom:") + 1] + sign()
    assert (await ask(both, fail="reject", letters="GHIKLQT"))[0] is None


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (sign(), b"DKIM-Status: good        \n"),
        (BAD, b"DKIM-Status: message body does not hash to bh value\n"),
        (HEADER + b"\n", b"DKIM-Status: no signature\n"),
    ],
)
async def test_dkim_status_is_written_where_the_site_wants_it_and_never_the_senders(
    message: bytes, line: bytes
) -> None:
    forged = message.replace(b"To:", b"DKIM-Status: good        \nTo:", 1)
    assert (await ask(forged, status_field=True))[2].as_bytes().count(b"DKIM-Status: ") == 1
    assert (await ask(message, status_field=True))[2].as_bytes().startswith(line)
    assert (await ask(message))[2].prepended == []


@given(st.binary(max_size=400))
def test_any_bytes_in_the_place_of_a_signature_are_a_finding(data: bytes) -> None:
    field = b"DKIM-Signature: " + data.replace(b"\n", b"\n ") + b"\n"

    async def look() -> list[Finding]:
        message = Message.from_bytes(field + HEADER + b"\n" + BODY)
        return await verify_message(message, Resolver([]), Policy(), NOW)

    found = asyncio.run(look())
    assert [one.code.result for one in found] in (["permerror"], ["policy"])


class TestConformance(Conformance):
    plugin = Dkim
