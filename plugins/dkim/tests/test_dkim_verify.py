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

from pluq import HeaderField, Message
from pluq.dns import Resolver
from pluq.hookspecs.message import split_fields
from pluq.signatures.canon import header_input
from pluq.signatures.finding import Code, Finding
from pluq.signatures.keys import SigningKey
from pluq.signatures.signature import CLOCK_SECONDS
from pluq.testing.clock import virtual_time
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.signatures import BODY, HEADER, NOW, key_record, signed
from pluq_dkim import Dkim
from pluq_dkim.verify import Policy, verify_message

RSA = SigningKey("s", rsa.generate_private_key(65537, 2048))
OTHER = SigningKey("s", rsa.generate_private_key(65537, 2048))
SHORT = SigningKey("s", rsa.generate_private_key(65537, 1024))
ED25519 = SigningKey("s", ed25519.Ed25519PrivateKey.generate())


def sign(
    header: bytes = HEADER, body: bytes = BODY, key: SigningKey = RSA, value: bytes | None = None, **changes: str
) -> bytes:
    return signed(key, header, body, value, **changes)


async def verify(message: bytes, zone: Mapping[str, Any] | None = None, policy: Policy | None = None) -> list[Finding]:
    records = {"s._domainkey.good.test": [("TXT", key_record(RSA))]} | dict(zone or {})
    with FakeDns(records) as server:
        resolver = Resolver([server.address])
        try:
            return await verify_message(Message.from_bytes(message), resolver, policy or Policy(), NOW)
        finally:
            await resolver.close()


async def code_of(message: bytes, record: str | None = None, **policy: Any) -> Code:
    zone = {} if record is None else {"s._domainkey.good.test": [("TXT", record)]}
    (found,) = await verify(message, zone, Policy(**policy))
    return found.code


# -- what is good


@pytest.mark.parametrize("form", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "relaxed"])
@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
async def test_a_true_signature_passes(form: str, key: SigningKey) -> None:
    assert await code_of(sign(c=form, key=key), key_record(key)) is Code.GOOD


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
    zone = {"xn--j1ac0b1a._domainkey.xn--e1afmkfd.test": [("TXT", key_record(RSA))]}
    (found,) = await verify(sign(d="пример.test", s="ключ", i=identity), zone)
    assert (found.code, found.domain, found.selector) == (Code.GOOD, "xn--e1afmkfd.test", "xn--j1ac0b1a")


@pytest.mark.parametrize(
    "text",
    [
        key_record(RSA, v="-"),
        key_record(RSA, k="-"),
        key_record(RSA, h="sha1:sha256"),
        key_record(RSA, s="email"),
        key_record(RSA, s="other:*"),
        key_record(RSA, t="s"),
        key_record(RSA, n="a note", g=""),
        key_record(RSA) + ";",
        key_record(RSA).replace("MII", "M I\tI"),
    ],
)
async def test_a_key_record_may_say_so(text: str) -> None:
    assert await code_of(sign(), text) is Code.GOOD


async def test_every_signature_has_its_own_result() -> None:
    good = sign()
    bad = sign(key=OTHER, d="other.test")
    field = bad[: bad.index(b"\nFrom:") + 1]
    found = await verify(field + good, {"s._domainkey.other.test": [("TXT", key_record(RSA))]})
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
    assert await code_of(sign(a="rsa-sha1", value=value)) is Code.OLD_ALGORITHM


def elliptic() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


# 512-bit key, no longer possible to make with the library.
P512 = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMLM5z1GMoYwrwBxU4fUnVoqoDMj8iLVGLR8wDJCD1bzAJSlYZ2nDYBSXUnVAVUaOFJZCzLRTWzJZUtuiZk0VIkCAwEAAQ=="

RECORDS: dict[str, tuple[str, Code]] = {
    "short key": (key_record(RSA, p=P512), Code.WEAK_KEY),
    "no key": (key_record(RSA, p=""), Code.REVOKED),
    "key is not base64": (key_record(RSA, p="!!!"), Code.BAD_KEY),
    "key is not DER": (key_record(RSA, p="AAAA"), Code.BAD_KEY),
    "key of another kind in it": (key_record(RSA, p=elliptic()), Code.BAD_KEY),
    "hash": (key_record(RSA, h="sha1"), Code.WRONG_ALGORITHM),
    "service": (key_record(RSA, s="tlsrpt"), Code.BAD_RECORD),
    "k= unknown": (key_record(RSA, k="dsa"), Code.BAD_RECORD),
    "k= is not that of a=": (key_record(ED25519), Code.WRONG_ALGORITHM),
    "version": (key_record(RSA, v="DKIM2"), Code.BAD_RECORD),
    "version is not first": (key_record(RSA, v="-") + "; v=DKIM1", Code.BAD_RECORD),
    "a tag twice": (key_record(RSA) + "; t=s; t=s", Code.BAD_RECORD),
    "another key": (key_record(OTHER), Code.BAD_SIGNATURE),
    "another record": ("v=spf1 -all", Code.NO_KEY),
    "garbage": ("p=\0", Code.BAD_RECORD),
}


@pytest.mark.parametrize("name", RECORDS)
async def test_a_key_that_was_not_meant_for_this_is_not_used(name: str) -> None:
    text, expected = RECORDS[name]
    assert await code_of(sign(), text) is expected


async def test_a_strict_key_wants_the_domain_itself_in_i() -> None:
    assert await code_of(sign(i="@sub.good.test"), key_record(RSA, t="s")) is Code.STRICT_IDENTITY
    assert await code_of(sign(i="joe@good.test"), key_record(RSA, t="y:s")) is Code.TESTING


async def test_a_key_of_1024_bits_is_enough() -> None:
    assert await code_of(sign(key=SHORT), key_record(SHORT)) is Code.GOOD


async def test_a_domain_that_tests_is_not_blamed() -> None:
    assert await code_of(sign() + b"more\n", key_record(RSA, t="y")) is Code.FAILED_TESTING
    assert await code_of(sign(key=OTHER), key_record(RSA, t="y")) is Code.FAILED_TESTING


async def test_two_records_are_no_key() -> None:
    zone = {"s._domainkey.good.test": [("TXT", key_record(RSA)), ("TXT", key_record(OTHER))]}
    assert [one.code for one in await verify(sign(), zone)] == [Code.BAD_RECORD]


async def test_a_key_for_ed25519_is_not_taken_for_rsa_and_the_other_way_round() -> None:
    assert await code_of(sign(a="ed25519-sha256")) is Code.WRONG_ALGORITHM
    assert await code_of(sign(key=ED25519, a="rsa-sha256"), key_record(ED25519)) is Code.WRONG_ALGORITHM


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
    zone = {f"s{index}._domainkey.good.test": [("TXT", key_record(RSA))] for index in range(50)}
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
    with FakeDns({"s._domainkey.good.test": [("TXT", key_record(RSA))]}) as server:
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
