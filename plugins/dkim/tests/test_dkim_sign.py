"""dkim, signing: what is signed, by whom, with which key, and what never is."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from pluq import Delivery, Message, Session, Transaction
from pluq.config import Home
from pluq.dns import Resolver
from pluq.errors import ConfigError
from pluq.hookspecs import Login
from pluq.remote.deliver import edited_body
from pluq.signatures.finding import Code
from pluq.signatures.keys import load_key
from pluq.signatures.outgoing import line_ends
from pluq.signatures.tags import Tags, parse_tags
from pluq.testing.dns import FakeDns
from pluq.testing.plugins import make_plugin
from pluq_dkim import Dkim
from pluq_dkim.sign import author_domain, checked_domain
from pluq_dkim.verify import Policy, verify_message

NOW = 1_800_000_000
RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
MESSAGE = (
    b"Received: (qmail 1 invoked by uid 1); 1 Jan 2027 00:00:00 -0000\n"
    b"From: Joe <joe@Example.ORG>\nTo: ann@dst.test\nSubject: hello\n there\nDate: Fri, 15 Jan 2027 08:00:00 +0000\n"
    b"X-Spam: no\nX-Mailer: pen\n\nbody  text \n\n.dot\n"
)


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, form, NoEncryption())
    return data


@pytest.fixture
def home(tmp_path: Path) -> Home:
    for domain in ("example.org", "example.net"):
        folder = tmp_path / "control" / "domainkeys" / domain
        folder.mkdir(parents=True)
        (folder / "default").write_bytes(pem(RSA))
        (folder / "ed25519").write_bytes(pem(ED25519))
    return Home(str(tmp_path))


def make(home: Home, role: str = "remote", **chosen: Any) -> Dkim:
    plugin = make_plugin(Dkim, home=home, role=role, **chosen)
    plugin.clock = lambda: NOW
    return plugin


async def deliver(home: Home, message: bytes = MESSAGE, sender: bytes = b"joe@example.org", **chosen: Any) -> bytes:
    """Return a message as it is sent to another host."""
    view = Message.from_bytes(message)
    delivery = Delivery("remote", 1, sender, [b"ann@dst.test"], b"dst.test", view)
    await make(home, **chosen).remote_message(delivery, view)
    return view.as_bytes()


async def submit(
    home: Home, session: Session, message: bytes = MESSAGE, sender: bytes = b"joe@example.org", **chosen: Any
) -> bytes:
    view = Message.from_bytes(message)
    await make(home, "smtpd", **chosen).message_sign(session, Transaction(sender), view)
    return view.as_bytes()


def signatures(message: bytes) -> list[Tags]:
    found = Message.from_bytes(message).fields
    return [parse_tags(one.raw.partition(b":")[2]) for one in found if one.name == b"dkim-signature"]


def domains(message: bytes) -> list[bytes]:
    return [one[b"d"] for one in signatures(message)]


async def codes(message: bytes, *selectors: str) -> list[Code]:
    """Verify as a receiver would, with both keys published below each selector."""
    keys = {"ed25519": ED25519}
    zone = {}
    for selector in selectors or ("default", "ed25519"):
        for domain in ("example.org", "example.net"):
            loaded = load_key(f"/{selector}", pem(keys.get(selector, RSA)))
            text = f"k={loaded.kind}; p={base64.b64encode(loaded.public_octets()).decode()}"
            zone[f"{selector}._domainkey.{domain}"] = [("TXT", text)]
    with FakeDns(zone) as server:
        resolver = Resolver([server.address])
        received = Message.from_bytes(message)
        found = await verify_message(received, resolver, Policy(accept_partial_body=True), NOW)
        await resolver.close()
    return [one.code for one in found]


# -- the signature


async def test_a_delivery_is_signed_with_the_key_of_the_authors_domain(home: Home) -> None:
    signed = await deliver(home)
    assert signed.endswith(MESSAGE)
    (tags,) = signatures(signed)
    assert tags[b"d"] == b"example.org"
    assert (tags[b"s"], tags[b"a"], tags[b"c"]) == (b"default", b"rsa-sha256", b"relaxed/relaxed")
    assert tags[b"t"] == str(NOW).encode()
    assert not tags.keys() & {b"x", b"l", b"i", b"z"}
    assert await codes(signed) == [Code.GOOD]


async def test_two_keys_make_two_signatures(home: Home) -> None:
    signed = await deliver(home, extra_key="control/domainkeys/%/ed25519")
    assert {one[b"a"] for one in signatures(signed)} == {b"rsa-sha256", b"ed25519-sha256"}
    assert await codes(signed) == [Code.GOOD, Code.GOOD]


@pytest.mark.parametrize("letter", "rstu")
@pytest.mark.parametrize("more", ["", " -l -q -t -h -z 2 -b 1", " -x 3600 -i joe@example.org"])
@pytest.mark.parametrize("fields", ["usual", "all"])
async def test_every_form_verifies(home: Home, letter: str, more: str, fields: str) -> None:
    assert await codes(await deliver(home, options=f"-c {letter}{more}", fields=fields)) == [Code.GOOD]


async def test_readers_fields_are_signed_once_more_than_they_occur(home: Home) -> None:
    signed = await deliver(home)
    (tags,) = signatures(signed)
    names = tags[b"h"].replace(b"\n\t", b"").split(b":")
    for name in (b"from", b"to", b"subject"):
        assert names.count(name) == 2
    assert names.count(b"reply-to") == 1
    for added in (b"From: x@evil.test\n", b"Subject: buy\n", b"Reply-To: x@evil.test\n"):
        assert Code.GOOD not in await codes(signed.replace(b"X-Spam: no\n", added))


async def test_trace_fields_are_never_signed(home: Home) -> None:
    trace = b"Return-Path: <x>\nAuthentication-Results: a.test; none\nDKIM-Signature: v=1\nX-Spam: yes\n"
    signed = await deliver(home, trace + MESSAGE, fields="all")
    tags = signatures(signed)[0]
    names = tags[b"h"].replace(b"\n\t", b"").split(b":")
    assert set(names) == {b"from", b"to", b"subject", b"date", b"x-mailer", b"reply-to", b"cc"}


async def test_a_field_name_of_odd_octets_cannot_break_the_signature(home: Home) -> None:
    signed = await deliver(home, b"A;d=bank.test: x\n" + MESSAGE, fields="all")
    assert domains(signed) == [b"example.org"]
    assert await codes(signed) == [Code.GOOD]


async def test_options_come_from_settings_and_variables(home: Home) -> None:
    (tags,) = signatures(await deliver(home, options="-x 60 -i @sub.example.org -l -q", exclude=("subject",)))
    assert tags[b"x"] == str(NOW + 60).encode()
    assert (tags[b"i"], tags[b"q"]) == (b"@sub.example.org", b"dns/txt")
    assert b"subject" not in tags[b"h"].replace(b"\n\t", b"").split(b":")
    session = Session(environment={"RELAYCLIENT": "", "DKIMSIGNOPTIONS": "-c s", "DKIMEXPIRE": "90"})
    (tags,) = signatures(await submit(home, session))
    assert (tags[b"c"], tags[b"x"]) == (b"simple/simple", str(NOW + 90).encode())


async def test_an_identity_of_another_domain_is_left_out(home: Home) -> None:
    for identity in ("@evil.test", "joe@evilexample.org", 'x";d=evil.test;@example.org', "nothing"):
        assert b"i" not in signatures(await deliver(home, identity=identity))[0]


@pytest.mark.parametrize("options", ["-c x", "-k", "-x soon", "word"])
async def test_options_that_are_none_keep_the_message(home: Home, options: str) -> None:
    with pytest.raises(ConfigError, match="DKIMSIGNOPTIONS"):
        await deliver(home, options=options)
    assert make(home, options=options).check()


async def test_what_is_signed_is_what_goes_over_the_wire(home: Home) -> None:
    odd = MESSAGE.replace(b"body", b"one\r\ntwo\rthree\r\r\nbody")
    for options in ("-c r", "-c s"):
        view = Message.from_bytes(odd)
        delivery = Delivery("remote", 1, b"joe@example.org", [b"ann@dst.test"], b"dst.test", view)
        await make(home, options=options).remote_message(delivery, view)
        sent = edited_body(view)
        assert isinstance(sent, bytes)
        received = sent.replace(b"\r\n.", b"\r\n").replace(b"\r\n", b"\n")
        assert b"\r" not in received
        assert await codes(received) == [Code.GOOD]


async def test_a_large_message_is_signed_from_its_file_without_stopping_others(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(MESSAGE + b"line  of text\t \n" * 400_000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    with path.open("rb") as file:
        view = Message(file, path.stat().st_size)
        delivery = Delivery("remote", 1, b"joe@example.org", [b"ann@dst.test"], b"dst.test", view)
        running = asyncio.create_task(others())
        await make(home).remote_message(delivery, view)
        running.cancel()
        assert await codes(view.as_bytes()) == [Code.GOOD]
    assert turns > 1


@given(
    st.lists(st.sampled_from([b" ", b"\t", b"\n", b"\r", b"\r\n", b"x", b".", b"\0", b"\xff", b"  \n\n"]), max_size=60),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_pieces_of_any_size_are_one_message(parts: list[bytes], step: int) -> None:
    text = b"".join(parts)
    cut = max(1, step)
    pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
    assert b"".join(line_ends(pieces)) == text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


# -- who is signed for


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b"joe@example.org", "example.org"),
        (b"Joe <joe@EXAMPLE.org>", "example.org"),
        (b'"a@b, c" <joe@example.org> (x@evil.test)', "example.org"),
        (b"joe@good.test <b@evil.test>", "evil.test"),
        (b"a@example.org, b@example.org", "example.org"),
        (b"a@example.org, b@example.net", None),
        (b"friends: a@example.org;", "example.org"),
        (b"friends:;", None),
        (b"joe", None),
        (b"", None),
        (b"joe@[192.0.2.1]", None),
        (b"joe@localhost", None),
        (b"joe@../../etc", None),
        (b"joe@a/b.test", None),
        (b"joe@\xc3.test", None),
        (b'joe@"..".test', None),
        (b"(unclosed joe@example.org", None),
        ("дом@ПРИМЕР.рф".encode(), "xn--e1afmkfd.xn--p1ai"),
        ("дом <joe@пример.рф>".encode(), "xn--e1afmkfd.xn--p1ai"),
        ("дом@a..рф".encode(), None),
    ],
)
def test_the_authors_domain_is_one_domain_or_none(value: bytes, domain: str | None) -> None:
    message = Message.from_bytes(b"From: " + value + b"\nTo: x\n\n")
    assert author_domain(message.fields) == domain


async def test_a_message_without_exactly_one_from_is_not_signed(home: Home) -> None:
    for header in (b"To: ann\n", b"From: joe@example.org\nFrom: joe@example.org\n", b""):
        message = header + b"\nbody\n"
        assert await deliver(home, message) == message
        assert await submit(home, Session(environment={"RELAYCLIENT": ""}), message) == message


async def test_a_domain_without_a_key_is_not_signed(home: Home) -> None:
    message = MESSAGE.replace(b"Example.ORG", b"other.test")
    assert await deliver(home, message) == message


@pytest.mark.parametrize(
    ("session", "sign", "expected"),
    [
        (Session(), "relay", 0),
        (Session(environment={"RELAYCLIENT": ""}), "relay", 1),
        (Session(login=Login(b"joe", "plain")), "relay", 1),
        (Session(), "all", 1),
        (Session(environment={"RELAYCLIENT": ""}), "none", 0),
    ],
)
async def test_a_profile_signs_for_those_who_may(home: Home, session: Session, sign: str, expected: int) -> None:
    assert len(signatures(await submit(home, session, sign=sign))) == expected


async def test_a_signature_is_not_made_twice(home: Home) -> None:
    once = await submit(home, Session(environment={"RELAYCLIENT": ""}))
    assert await deliver(home, once) == once


FORWARDED = b"Delivered-To: ann@example.net\n" + MESSAGE
FROM_A_STRANGER = (
    b"Authentication-Results: mx.example.org;\n\tspf=pass smtp.mailfrom=x@evil.test;\n\tdkim=none\n" + MESSAGE
)


@pytest.mark.parametrize("message", [FORWARDED, FROM_A_STRANGER])
async def test_what_only_passes_through_gets_no_proof_of_its_claimed_author(home: Home, message: bytes) -> None:
    assert domains(await deliver(home, message)) == []
    assert domains(await deliver(home, message, forwards="example.net")) == [b"example.net"]
    assert await codes(await deliver(home, message, forwards="example.net")) == [Code.GOOD]
    assert domains(await deliver(home, message, forwards="%")) == [b"example.org"]


@pytest.mark.parametrize(
    "results",
    [
        b"mx.example.org; auth=pass (plain) smtp.auth=joe;\n\tspf=none",
        b"mx.example.org; none",
        b"other.test; dkim=pass header.d=x.test",
    ],
)
async def test_results_of_our_own_users_and_of_others_do_not_make_a_stranger(home: Home, results: bytes) -> None:
    message = b"Authentication-Results: " + results + b"\n" + MESSAGE
    assert domains(await deliver(home, message)) == [b"example.org"]


async def test_a_bounce_is_signed_by_its_from_or_by_the_domain_for_bounces(home: Home) -> None:
    assert domains(await deliver(home, sender=b"")) == [b"example.org"]
    message = MESSAGE.replace(b"Example.ORG", b"mail.example.org")
    assert domains(await deliver(home, message, b"")) == []
    assert domains(await deliver(home, message, b"", bounce_domain="example.net")) == [b"example.net"]
    assert domains(await deliver(home, message, bounce_domain="example.net")) == []


# -- the keys


async def test_dkimkeys_come_before_the_pattern(home: Home, tmp_path: Path) -> None:
    special = tmp_path / "control" / "special"
    special.write_bytes(pem(ED25519))
    lines = (
        "example.net:/nowhere",
        f"Example.org:{special}:DKIMSIGNOPTIONS=-c s -i joe@example.org,OTHER=1",
        "*:/nowhere",
    )
    (tags,) = signatures(await deliver(home, keys=lines))
    assert (tags[b"s"], tags[b"c"], tags[b"i"]) == (b"special", b"simple/simple", b"joe@example.org")
    assert signatures(await deliver(home, keys=lines, ignore_keys=True))[0][b"s"] == b"default"
    assert signatures(await deliver(home, keys=("*:control/domainkeys/%/ed25519",)))[0][b"s"] == b"ed25519"


async def test_the_variables_of_qmail_dkim_are_understood(home: Home) -> None:
    def session(**environment: str) -> Session:
        return Session(environment={"RELAYCLIENT": ""} | environment)

    async def selectors(**environment: str) -> list[bytes]:
        return [one[b"s"] for one in signatures(await submit(home, session(**environment)))]

    assert await selectors(DKIMSIGN="domainkeys/%/ed25519") == [b"ed25519"]
    assert await selectors(DKIMKEY="control/domainkeys/%/ed25519") == [b"ed25519"]
    assert await selectors(DKIMSIGN=f"{home.path}/control/domainkeys/example.net/default") == [b"default"]
    assert await selectors(DKIMSIGNEXTRA="control/domainkeys/%/ed25519") == [b"ed25519", b"default"]


async def test_the_other_layouts_are_found(home: Home, tmp_path: Path) -> None:
    keys = tmp_path / "control" / "domainkeys"
    (keys / "example.org" / "default").rename(keys / "example.org" / "private")
    assert signatures(await deliver(home))[0][b"s"] == b"private"
    (keys / "example.org" / "private").rename(keys / "default")
    assert signatures(await deliver(home))[0][b"s"] == b"default"
    other = tmp_path / "control" / "dkim" / "example.org"
    other.mkdir(parents=True)
    (keys / "default").rename(other / "s1")
    assert signatures(await deliver(home, key="control/dkim/%/s1"))[0][b"s"] == b"s1"


FILTER = (
    "/var/qmail/bin/qmail-dkim:ERROR_FD=2,DKIMQUEUE=/bin/cat,DKIMSIGN=control/domainkeys/%/ed25519,DKIMSIGNOPTIONS=-z 2"
)


@pytest.mark.parametrize(
    ("lines", "selector"),
    [
        ((f"*:remote:{FILTER}",), b"ed25519"),
        ((f"*:{FILTER}",), b"ed25519"),
        ((f"dst.test:remote:{FILTER}",), b"ed25519"),
        ((f"example.org:remote:{FILTER}",), b"ed25519"),
        ((f"elsewhere.test:remote:{FILTER}",), None),
        ((f"*:local:{FILTER}",), b"default"),
        (("*:remote:/bin/cat",), b"default"),
        ((f"elsewhere.test:{FILTER}", "*:remote:qmail-dkim"), b"default"),
    ],
)
async def test_filterargs_say_which_deliveries_are_signed(
    home: Home, lines: tuple[str, ...], selector: bytes | None
) -> None:
    found = signatures(await deliver(home, filterargs=lines))
    assert [one[b"s"] for one in found] == ([] if selector is None else [selector])


BAD_KEYS = {
    "garbage": b"garbage\n",
    "empty": b"",
    "a public key": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "encrypted": RSA.private_bytes(
        Encoding.PEM,
        PrivateFormat.PKCS8,
        __import__("cryptography.hazmat.primitives.serialization", fromlist=["x"]).BestAvailableEncryption(b"x"),
    ),
}


@pytest.mark.parametrize("name", BAD_KEYS)
async def test_a_key_that_cannot_be_used_keeps_the_message_or_lets_it_go_unsigned(home: Home, name: str) -> None:
    path = Path(home.path, "control/domainkeys/example.org/default")
    path.write_bytes(BAD_KEYS[name])
    with pytest.raises(ConfigError, match=str(path)):
        await deliver(home)
    logged: list[str] = []
    assert await deliver(home, unusable_key="send", log=logged.append) == MESSAGE
    assert str(path) in logged[0]


async def test_a_key_that_must_be_there_is_missed(home: Home) -> None:
    with pytest.raises(ConfigError, match="/nowhere: "):
        await deliver(home, key="/nowhere")
    with pytest.raises(ConfigError, match="/nowhere: "):
        await deliver(home, keys=("*:/nowhere",))
    with pytest.raises(ConfigError, match="dkimkeys"):
        await deliver(home, keys=("nonsense",))
    assert len(make(home, key="/nowhere", keys=("*:/nowhere", "nonsense")).check()) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who becomes a user that may not read the key")
async def test_a_key_that_may_not_be_read_is_not_a_missing_key() -> None:
    with tempfile.TemporaryDirectory() as folder:  # every user can reach it
        os.chmod(folder, 0o755)
        path = Path(folder, "key")
        path.write_bytes(pem(RSA))
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
                await deliver(Home(folder), key=str(path))
        finally:
            os.seteuid(0)


def test_keys_come_in_every_usual_form() -> None:
    seed = base64.b64encode(ED25519.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())) + b"\n"
    for data in (pem(RSA), pem(RSA, PrivateFormat.TraditionalOpenSSL)):
        assert load_key("/s", data).algorithm == "rsa-sha256"
    for data in (pem(ED25519), seed):
        assert load_key("/s", data).public_octets() == ED25519.public_key().public_bytes_raw()


async def test_a_changed_key_is_seen_after_a_minute(home: Home) -> None:
    from pluq.signatures.keys import KEEP_SECONDS, KeyRing
    from pluq_dkim.commands import read_file

    now = 0.0
    ring = KeyRing(read_file, lambda: now)
    path = f"{home.path}/control/domainkeys/example.org/later"
    assert ring.get(path) is None
    Path(path).write_bytes(pem(ED25519))
    assert ring.get(path) is None
    now += KEEP_SECONDS + 1
    assert ring.get(path) is not None


@given(st.binary(max_size=80))
def test_a_domain_from_a_strangers_message_never_leaves_the_folder(name: bytes) -> None:
    found = checked_domain(name)
    assert found is None or (not set(found) & set("/\\\0 ") and ".." not in found)


def test_signing_four_kibibytes_with_rsa_2048_takes_less_than_700_microseconds() -> None:
    from bench import dkim_cost

    key = load_key("/s", pem(RSA))
    message = dkim_cost.HEADER + dkim_cost.text(4096)
    best = float(dkim_cost.measure(lambda: dkim_cost.sign(key, message), 200).split()[0])
    assert best < 0.7
