r"""Addresses at the edges of the grammar, and beyond: each is answered once, stays one address, and is written so that it is read as the same one.

pluq accepts what qmail accepts: any octets up to a length, but no line end and no NUL. What RFC 5321 allows is a part of that.
`PLUQ_ISEMAIL_TESTS` names test/tests.xml of isemail (dominicsayers/isemail), whose addresses then go the same way.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree

import pytest

from pluq.mail import header, tokens
from pluq.mail.address import parse_path, quote
from pluq.testing.smtp_session import Talk

SUITE = os.environ.get("PLUQ_ISEMAIL_TESTS", "")
LONG_LABEL = "a" * 63

# By RFC 5321: Mailbox, with quoted strings, quoted pairs and address literals.
ALLOWED = [
    "a@b.example",
    "a.b.c@b.example",
    "1@b.example",
    "!#$%&'*+-/=?^_`{|}~@b.example",
    '"a b"@b.example',
    '""@b.example',
    '"a@b"@c.example',
    '"a>b"@c.example',
    '"a<b"@c.example',
    '"a\\"b"@c.example',
    '"a\\\\"@c.example',
    '"\\ "@c.example',
    '"a..b"@c.example',
    '".a."@c.example',
    '"(a)"@c.example',
    '"a,b;c:d"@c.example',
    "a@[127.0.0.1]",
    "a@[IPv6:2001:db8::1]",
    "a@[tag:what it says]",
    f"a@{LONG_LABEL}.{LONG_LABEL}.example",
    f"{'a' * 64}@b.example",
    "a@xn--bcher-kva.example",
    "a@b",
    "a@1.2.3.4",
]
# What the RFC does not allow: qmail takes most of it as it stands.
ODD = [
    "a",
    "@",
    "@b.example",
    "a@",
    ".a@b.example",
    "a.@b.example",
    "a..b@b.example",
    "a b@c.example",
    "a@@b.example",
    "a@b@c.example",
    '"a@b.example',
    'a"b"c@d.example',
    '"a"b@c.example',
    "a\\@b@c.example",
    "a\\",
    "a@b\\",
    "a@-b.example",
    "a@b-.example",
    "a@b..example",
    "a@.b.example",
    "a@b.example.",
    "a@[127.0.0.1",
    "a@127.0.0.1]",
    "a@[",
    "a@[]",
    "a@[\\]]",
    "(comment)a@b.example",
    "a(comment)@b.example",
    "a@b.example(comment",
    "a\t@b.example",
    "a@b.example, c@d.example",
    "group: a@b.example;",
    "<a@b.example>",
    "<<a@b.example>>",
    "@x,@y:a@b.example",
    "@x:@y:a@b.example",
    "a\x07@b.example",
    "a\x7f@b.example",
    "\u00fc@b.example",
    "a@b\u00fccher.example",
    "a\u202e@b.example",
    f"{'a' * 65}@b.example",
    f"a@{'b' * 64}.example",
    f"a@{'b.' * 130}example",
    f"{'a.' * 400}a@b.example",
    '"' * 400 + "@b.example",
    "(" * 400 + "a@b.example",
]


def of_isemail() -> list[tuple[str, str]]:
    """The addresses of the suite and what it says of each; control characters stand there as pictures of themselves."""
    if not SUITE:
        return []
    found = []
    for test in ElementTree.parse(SUITE).getroot().iter("test"):
        text = test.findtext("address") or ""
        plain = "".join(chr(ord(one) - 0x2400) if 0x2400 <= ord(one) <= 0x2421 else one for one in text)
        found.append((plain, test.findtext("category") or ""))
    assert found, f"{SUITE} holds no tests"
    return found


ISEMAIL = of_isemail()
# The categories that RFC 5321 allows in an envelope.
MAILBOX = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
ALLOWED_OF_SUITE = [text for text, category in ISEMAIL if category in MAILBOX]
EVERY = [*ALLOWED, *ODD, *(text for text, _category in ISEMAIL)]
NEVER = {0, 10, 13}


def name(text: str) -> str:
    return ascii(text[:40])


def test_the_suite_of_isemail_is_at_hand():
    if not SUITE:
        pytest.skip("PLUQ_ISEMAIL_TESTS names no tests.xml of isemail")
    assert len(ISEMAIL) > 100


@pytest.mark.parametrize("text", [*ALLOWED, *ALLOWED_OF_SUITE], ids=name)
def test_every_mailbox_of_the_rfc_is_accepted(text):
    talk = Talk(environment={"RELAYCLIENT": ""})
    said = talk.send(f"MAIL FROM:<{text}>\r\nRCPT TO:<{text}>\r\n".encode())
    assert said == b"250 ok\r\n250 ok\r\n"


@pytest.mark.parametrize("text", EVERY, ids=name)
def test_each_address_is_answered_once_and_the_session_is_in_step(text):
    octets = text.encode()
    talk = Talk(environment={"RELAYCLIENT": ""})
    commands = b"MAIL FROM:<x@y>\r\nRCPT TO:<" + octets + b">\r\n"
    said = talk.send(commands)
    # A line feed is the end of a command for qmail: what follows is the next.
    assert said.count(b"\r\n") == commands.count(b"\n")
    talk.send(b"RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<good@b.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
    (queued,) = talk.queue.messages
    assert (queued.sender, queued.recipients) == (b"a@b", [b"good@b.example"])


@pytest.mark.parametrize("text", EVERY, ids=name)
def test_an_address_that_is_written_again_is_read_as_the_same(text):
    address = parse_path(b"<" + text.encode() + b">")[0]
    if set(address) & NEVER or address.startswith(b"@"):
        return  # neither is ever written
    box, at, domain = address.rpartition(b"@")
    if not at or set(domain) & set(b'\\">'):
        return  # qmail quotes the box alone
    again = parse_path(b"<" + quote(address) + b">")[0]
    assert again == address, box


@pytest.mark.parametrize("text", EVERY, ids=name)
def test_a_field_with_the_address_is_read_or_refused_and_what_is_written_of_it_stays(text):
    found = tokens.parse(b"To: " + text.encode().replace(b"\n", b" "))
    if found is None:
        return
    header.rewrite_addresses(found, lambda part: list(part))
    written = tokens.unparse(found)
    again = tokens.parse(written)
    assert again is not None
    assert tokens.unparse(again) == written
