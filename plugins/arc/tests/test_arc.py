"""arc: chains of our own making and of dkimpy's, verified by both, and every way to break one."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from pluq import Delivery, HeaderField, Message, Session, Transaction
from pluq.config import Home
from pluq.dns import Resolver
from pluq.hookspecs import Login
from pluq.hookspecs.message import split_fields
from pluq.signatures.keys import SigningKey
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.remote_home import RemoteHome, make_job
from pluq.testing.signatures import key_record
from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.smtp_session import Talk
from pluq_arc import Arc
from pluq_arc.chain import MAX_SETS, BadChain, collect, read_seals, sealed_octets
from pluq_arc.seal import findings, seal, status_of
from pluq_arc.verify import Outcome

NOW = int(time.time()) - 10  # dkimpy has no clock that could be set
RSA = SigningKey("s", rsa.generate_private_key(65537, 2048))
FAST = SigningKey("e", ed25519.Ed25519PrivateKey.generate())
PEM = RSA.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
MESSAGE = b"From: Joe <joe@good.test>\nTo: list@one.test\nSubject: hello\n\nfirst\n\nlast\n"


ZONE: Mapping[str, Any] = {
    f"{key.selector}._domainkey.{host}.test": [("TXT", key_record(key))]
    for host in ("one", "two", "three")
    for key in (RSA, FAST)
}


def found_by(host: str, arc: str = "none", more: str = "spf=pass smtp.mailfrom=joe@good.test") -> bytes:
    return f"Authentication-Results: mx.{host}.test; {more};\n\tarc={arc}\n".encode()


async def sealed(message: bytes, host: str, arc: str = "none", key: SigningKey = RSA, **changes: Any) -> bytes:
    """Return a message as it leaves a host that found its chain to be so."""
    view = Message.from_bytes(found_by(host, arc) + message)
    for field in await seal(view, key, f"{host}.test", f"mx.{host}.test", NOW):
        view.prepend(field)
    return view.as_bytes()


async def verify(message: bytes, zone: Mapping[str, Any] = ZONE, session: Session | None = None) -> Outcome | None:
    with FakeDns(zone) as server:
        resolver = Resolver([server.address])
        plugin = make_plugin(Arc, resolver=lambda: resolver)
        plugin.clock = lambda: NOW
        answer = await plugin.message_verify(session or Session(), Transaction(b""), Message.from_bytes(message))
        await resolver.close()
    return None if answer is None else Outcome(answer[0].result, answer[0].domain, answer[0].reason)


async def result(message: bytes, zone: Mapping[str, Any] = ZONE) -> str:
    outcome = await verify(message, zone)
    assert outcome is not None
    return outcome.result


def by_dkimpy(message: bytes) -> bytes | None:
    """Return what dkimpy says of a chain."""

    def texts(name: bytes, timeout: int = 5) -> bytes:
        return ZONE[name.decode().rstrip(".")][0][1].encode()

    status, _, _ = dkim.ARC(message.replace(b"\n", b"\r\n")).verify(dnsfunc=texts)
    return status


def sealed_by_dkimpy(message: bytes, host: str, arc: str) -> bytes:
    """Return a message as dkimpy seals it."""
    wire = (found_by(host, arc) + message).replace(b"\n", b"\r\n")
    fields = dkim.arc_sign(wire, b"s", f"{host}.test".encode(), PEM, f"mx.{host}.test".encode(), timestamp=NOW)
    assert fields
    return (b"".join(fields) + wire).replace(b"\r\n", b"\n")


# -- chains that hold


async def test_a_message_without_sets_has_no_chain() -> None:
    assert await verify(MESSAGE) == Outcome("none")


@pytest.mark.parametrize("key", [RSA, FAST], ids=["rsa", "ed25519"])
async def test_a_sealed_message_passes_and_names_who_sealed(key: SigningKey) -> None:
    assert await verify(await sealed(MESSAGE, "one", key=key)) == Outcome("pass", "one.test")


async def test_a_chain_outlives_what_lists_do_to_a_message() -> None:
    message = await sealed(MESSAGE, "one")
    changed = message.replace(b"Subject: hello", b"Subject: [list] hello") + b"-- \nfooter\n"
    assert await result(changed) == "fail"
    resealed = await sealed(changed, "two", "pass")  # this host saw it before the change
    assert await verify(resealed) == Outcome("pass", "two.test")
    third = await sealed(b"Received: by three\n" + resealed, "three", "pass")
    assert await verify(third) == Outcome("pass", "three.test")


async def test_dkimpy_believes_our_seals() -> None:
    first = await sealed(MESSAGE, "one")
    assert by_dkimpy(first) == b"pass"
    second = await sealed(first + b"footer\n", "two", "pass")
    assert by_dkimpy(second) == b"pass"
    assert by_dkimpy(second + b"more\n") == b"fail"


async def test_we_believe_the_seals_of_dkimpy() -> None:
    first = sealed_by_dkimpy(MESSAGE, "one", "none")
    assert await verify(first) == Outcome("pass", "one.test")
    second = sealed_by_dkimpy(first + b"footer\n", "two", "pass")
    assert await verify(second) == Outcome("pass", "two.test")
    assert await result(second + b"more\n") == "fail"


async def test_both_make_one_chain_together() -> None:
    message = MESSAGE
    for number, host in enumerate(("one", "two", "three")):
        status = "pass" if number else "none"
        message = sealed_by_dkimpy(message, host, status) if number == 1 else await sealed(message, host, status)
    assert await verify(message) == Outcome("pass", "three.test")
    assert by_dkimpy(message) == b"pass"


async def test_the_order_of_the_sets_in_the_header_means_nothing() -> None:
    message = await sealed(await sealed(MESSAGE, "one"), "two", "pass")
    fields = split_fields(message[: message.index(b"\n\n") + 1])
    arc = [field.raw for field in fields if field.name.startswith(b"arc-")]
    others = [field.raw for field in fields if not field.name.startswith(b"arc-")]
    assert await result(b"".join(others + arc) + b"\nfirst\n\nlast\n") == "pass"


async def test_fifty_sets_are_a_chain_and_one_more_is_a_loop() -> None:
    message = MESSAGE
    for number in range(MAX_SETS):
        message = await sealed(message, "one", "pass" if number else "none", FAST)
    assert await result(message) == "pass"
    assert await seal(Message.from_bytes(found_by("two", "pass") + message), RSA, "two.test", "mx.two.test", NOW) == []
    assert await result(message.replace(b"i=50;", b"i=51;")) == "fail"


# -- chains that do not

Change = Callable[[bytes], bytes]


def drop(name: bytes, number: int) -> Change:
    """Return what takes one field of a set out."""

    def change(message: bytes) -> bytes:
        head, _, body = message.partition(b"\n\n")
        fields = split_fields(head + b"\n")
        kept = [f.raw for f in fields if not (f.name == name and b"i=%d;" % number in f.raw)]
        assert len(kept) == len(fields) - 1
        return b"".join(kept) + b"\n" + body

    return change


def exchange(old: bytes, new: bytes) -> Change:
    def change(message: bytes) -> bytes:
        assert old in message
        return message.replace(old, new, 1)

    return change


BROKEN: Mapping[str, Change] = {
    "body": lambda message: message + b"more\n",
    "subject": exchange(b"Subject: hello", b"Subject: hallo"),
    "another From": lambda message: message.replace(b"From:", b"From: x@evil.test\nFrom:", 1),
    "a From below": exchange(b"Subject:", b"From: x@evil.test\nSubject:"),
    "the last results": exchange(b"i=2; mx.two.test; spf=pass", b"i=2; mx.two.test; spf=fail"),
    "earlier results": exchange(b"i=1; mx.one.test; spf=pass", b"i=1; mx.one.test; spf=fail"),
    "an earlier message signature": exchange(
        b"ARC-Message-Signature: i=1; a=rsa", b"ARC-Message-Signature: i=1;  x=1; a=rsa"
    ),
    "no first seal": drop(b"arc-seal", 1),
    "no last seal": drop(b"arc-seal", 2),
    "no first results": drop(b"arc-authentication-results", 1),
    "no last message signature": drop(b"arc-message-signature", 2),
    "a gap": lambda message: message.replace(b"i=1;", b"i=3;"),
    "two of one number": lambda message: message.replace(b"i=1;", b"i=2;"),
    "number 0": lambda message: message.replace(b"i=1;", b"i=0;"),
    "no number": lambda message: message.replace(b"i=1;", b"j=1;"),
    "a number that is none": lambda message: message.replace(b"i=1;", b"i=x;"),
    "a huge number": lambda message: message.replace(b"i=1;", b"i=999;"),
    "a second seal": lambda message: b"ARC-Seal: i=2; a=rsa-sha256; cv=pass; d=evil.test; s=s; b=AAAA\n" + message,
    "a third seal alone": lambda message: b"ARC-Seal: i=3; a=rsa-sha256; cv=pass; d=evil.test; s=s; b=AAAA\n" + message,
    "cv=fail": exchange(b"cv=pass", b"cv=fail"),
    "cv=none": exchange(b"cv=pass", b"cv=none"),
    "cv=pass at first": exchange(b"cv=none", b"cv=pass"),
    "cv= unknown": exchange(b"cv=pass", b"cv=maybe"),
    "no cv=": exchange(b"cv=pass;", b""),
    "h= in a seal": exchange(b"cv=pass;", b"cv=pass; h=from;"),
    "rsa-sha1": exchange(b"cv=pass; a=rsa-sha256", b"cv=pass; a=rsa-sha1"),
    "another kind of key": exchange(b"cv=pass; a=rsa-sha256", b"cv=pass; a=ed25519-sha256"),
    "a seal of somebody else": exchange(b"cv=pass; a=rsa-sha256; d=two.test", b"cv=pass; a=rsa-sha256; d=one.test"),
    "a selector without a key": exchange(b"d=two.test; s=s", b"d=two.test; s=t"),
    "tags that are none": exchange(b"cv=pass;", b"cv=pass; cv=pass;"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_chain_that_was_touched_fails(name: str) -> None:
    message = await sealed(await sealed(MESSAGE, "one"), "two", "pass")
    assert await result(BROKEN[name](message)) == "fail"


async def test_a_message_signature_must_cover_from_and_no_seal() -> None:
    message = await sealed(MESSAGE, "one")
    for old, new in ((b"h=from:", b"h=to:"), (b"h=from:", b"h=arc-seal:from:")):
        assert old in message
        outcome = await verify(
            message.replace(old, new).replace(b":from", b"") if new == b"h=to:" else message.replace(old, new)
        )
        assert outcome is not None and outcome.result == "fail"


async def test_a_message_with_the_seals_of_another_fails() -> None:
    message = await sealed(MESSAGE, "one")
    stolen = message[: message.index(b"From:")] + MESSAGE.replace(b"hello", b"buy this")
    assert await result(stolen) == "fail"


async def test_a_key_that_cannot_be_looked_up_is_no_failure() -> None:
    message = await sealed(await sealed(MESSAGE, "one"), "two", "pass")
    assert await result(message, {**ZONE, "s._domainkey.one.test": Fault.SERVFAIL}) == "temperror"


async def test_a_revoked_key_fails() -> None:
    message = await sealed(MESSAGE, "one")
    assert await result(message, {**ZONE, "s._domainkey.one.test": [("TXT", "v=DKIM1; p=")]}) == "fail"


async def test_the_questions_for_one_message_are_bounded() -> None:
    seals = b"".join(
        b"ARC-Seal: i=%d; a=rsa-sha256; cv=%b; d=d%d.test; s=s; b=AAAA\nARC-Message-Signature: i=%d; a=rsa-sha256; d=m%d.test;"
        b" s=s; h=from; bh=AAAA; b=AAAA\nARC-Authentication-Results: i=%d; x\n"
        % (number, b"pass" if number > 1 else b"none", number, number, number, number)
        for number in range(1, MAX_SETS + 1)
    )
    with FakeDns(ZONE) as server:
        resolver = Resolver([server.address])
        plugin = make_plugin(Arc, resolver=lambda: resolver)
        message = Message.from_bytes(seals + MESSAGE)
        answer = await plugin.message_verify(Session(), Transaction(b""), message)
        await resolver.close()
        assert len(server.queries) <= 60
    assert answer is not None and answer[0].result == "fail"


async def test_clients_that_may_relay_or_logged_in_are_not_looked_at() -> None:
    for session in (Session(environment={"RELAYCLIENT": ""}), Session(login=Login(b"joe", "plain"))):
        assert await verify(MESSAGE, session=session) is None


ARC_FIELD = st.sampled_from([b"ARC-Seal:", b"ARC-Message-Signature:", b"ARC-Authentication-Results:"])
TAGS = st.sampled_from(
    [
        b" i=1;",
        b" i=2;",
        b" cv=none;",
        b" a=rsa-sha256;",
        b" d=x.test;",
        b" s=s;",
        b" h=from;",
        b" b=AA==;",
        b"\n\t",
        b";",
    ]
)


@given(
    st.lists(
        st.tuples(ARC_FIELD, st.lists(TAGS | st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"")), max_size=10)),
        max_size=7,
    )
)
def test_any_fields_are_a_chain_or_none(fields: list[tuple[bytes, list[bytes]]]) -> None:
    header = b"".join(name + b"".join(parts) + b"\n" for name, parts in fields)
    try:
        sets = collect(split_fields(header))
        read_seals(sets, NOW)
    except BadChain:
        return
    if sets:
        sealed_octets(sets)


# -- sealing


def home_with_key(folder: Path) -> Home:
    keys = folder / "control" / "domainkeys" / "here.test"
    keys.mkdir(parents=True)
    (keys / "s").write_bytes(PEM)
    return Home(str(folder))


async def forward(home: Home, message: bytes, log: list[str] | None = None, **settings: Any) -> bytes:
    """Return a message as the plugin lets it go."""
    written: list[str] = [] if log is None else log
    settings = {"domain": "here.test", "key": "control/domainkeys/%/s", **settings}
    plugin = make_plugin(Arc, home=home, role="remote", authserv_id="mx.here.test", log=written.append, **settings)
    plugin.clock = lambda: NOW
    view = Message.from_bytes(message)
    await plugin.remote_message(Delivery("remote", 1, b"", [b"x@far.test"]), view)
    return view.as_bytes()


async def test_what_a_stranger_sent_is_sealed_with_what_was_found(tmp_path: Path) -> None:
    home = home_with_key(tmp_path)
    message = await forward(home, found_by("here") + MESSAGE)
    names = [field.name for field in split_fields(message)]
    assert names[:4] == [
        b"arc-seal",
        b"arc-message-signature",
        b"arc-authentication-results",
        b"authentication-results",
    ]
    assert (
        b"ARC-Authentication-Results: i=1; mx.here.test; spf=pass smtp.mailfrom=joe@good.test;\n\tarc=none\n" in message
    )
    zone = {"s._domainkey.here.test": [("TXT", key_record(RSA))]}
    assert await verify(message, zone) == Outcome("pass", "here.test")


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        found_by("elsewhere") + MESSAGE,
        found_by("here", more="auth=pass smtp.auth=joe; spf=pass") + MESSAGE,
        b"Authentication-Results: mx.here.test; spf=pass smtp.mailfrom=a@b\n" + MESSAGE,
        found_by("here", "temperror") + MESSAGE,
        found_by("here", "pass") + MESSAGE,  # there is no chain that could have passed
        b"Authentication-Results: mx.here.test; arc=none; arc=pass; spf=pass\n" + MESSAGE,
    ],
)
async def test_what_is_ours_or_was_not_looked_at_is_not_sealed(tmp_path: Path, message: bytes) -> None:
    assert await forward(home_with_key(tmp_path), message) == message


async def test_a_chain_that_had_failed_gets_a_set_that_says_so_and_no_more(tmp_path: Path) -> None:
    home = home_with_key(tmp_path)
    broken = (await sealed(MESSAGE, "one")) + b"changed\n"
    message = await forward(home, found_by("here", "fail") + broken)
    assert b"i=2; cv=fail;" in message
    own = collect(split_fields(message))[1]
    value = own.seal.raw.rpartition(b"b=")[2].translate(None, b" \t\n")
    RSA.key.public_key().verify(base64.b64decode(value), sealed_octets([own]), *rsa_sha256())
    assert await result(message) == "fail"
    assert await forward(home, found_by("here", "fail") + message) == found_by("here", "fail") + message


def rsa_sha256() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return PKCS1v15(), SHA256()


async def test_without_a_domain_nothing_is_sealed(tmp_path: Path) -> None:
    message = found_by("here") + MESSAGE
    assert await forward(home_with_key(tmp_path), message, domain="") == message


async def test_a_missing_key_is_said_and_the_mail_goes_on(tmp_path: Path) -> None:
    log: list[str] = []
    message = found_by("here") + MESSAGE
    assert await forward(home_with_key(tmp_path), message, log, domain="other.test") == message
    assert "not sealed" in log[0]
    plugin = make_plugin(
        Arc, home=Home(str(tmp_path)), role="remote", domain="other.test", key="control/domainkeys/%/s"
    )
    assert len(plugin.check()) == 1
    assert not make_plugin(
        Arc, home=Home(str(tmp_path)), role="remote", domain="here.test", key="control/domainkeys/%/s"
    ).check()
    assert make_plugin(Arc, home=Home(str(tmp_path)), role="remote", domain="../x").check()


def test_a_key_that_only_root_may_read_is_no_fault(tmp_path: Path) -> None:
    def refuse(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    plugin = make_plugin(Arc, home=home_with_key(tmp_path), role="remote", domain="here.test")
    plugin.context = replace(plugin.context, read_file=refuse)
    assert not plugin.check()


def test_only_our_own_field_is_believed() -> None:
    def look(*fields: bytes) -> bytes | None:
        return findings(
            [HeaderField(b"authentication-results", b"Authentication-Results: " + one) for one in fields],
            "mx.here.test",
        )

    assert look(b"mx.evil.test; arc=pass; spf=pass\n") is None
    assert look(b"MX.Here.test; arc=pass; spf=pass\n") == b"MX.Here.test; arc=pass; spf=pass"
    assert status_of(b'mx.here.test; spf=fail reason="arc=pass"; arc=none') == "none"
    assert status_of(b"mx.here.test; spf=pass") is None


async def test_from_a_stranger_to_another_host_the_chain_grows(tmp_path: Path) -> None:
    home = RemoteHome(tmp_path)
    home_with_key(tmp_path)
    first = await sealed(MESSAGE, "one")
    with FakeDns(ZONE) as server:
        resolver = Resolver([server.address])
        door = make_plugin(Arc, resolver=lambda: resolver, authserv_id="mx.here.test")
        door.clock = lambda: NOW
        talk = Talk(plan=plan_of(door))
        for line in ("EHLO x", "MAIL FROM:<joe@good.test>", "RCPT TO:<joe@example.org>", "DATA"):
            await talk.ask(line)
        text = first.replace(b"\n", b"\r\n").decode()
        assert (await talk.ask(text + ".")).startswith("250")
        await resolver.close()
    queued = talk.queue.messages[0].message
    assert b"arc=pass" in queued
    assert queued.count(b"ARC-Seal") == 1
    plugin = make_plugin(
        Arc, home=home.home, role="remote", authserv_id="mx.here.test", domain="here.test", key="control/domainkeys/%/s"
    )
    plugin.clock = lambda: NOW
    with SmtpPeer() as peer:
        home.relay_to(peer)
        records = await home.deliverer(plan=plan_of(plugin)).deliver(make_job(queued))
    assert records[-1].startswith(b"K")
    received = peer.messages[0].replace(b"\r\n", b"\n").removesuffix(b".\n")
    zone = {**ZONE, "s._domainkey.here.test": [("TXT", key_record(RSA))]}
    assert await verify(received, zone) == Outcome("pass", "here.test")


class TestConformance(Conformance):
    plugin = Arc
