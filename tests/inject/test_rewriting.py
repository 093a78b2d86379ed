"""One field at a time: what qmail-inject makes of it, compared with notqmail's own results (rewriting.txt)."""

from pathlib import Path

import pytest

from pluq.inject.message import Header
from pluq.inject.rewrite import Completion, Unparsable, complete_address
from pluq.inject.settings import Author, Settings
from pluq.mail.tokens import parse

TABLE = Path(__file__).with_name("rewriting.txt")
COMPLETION = Completion.of(b"dh.example", b"dd.example", b"plus.example")
JOE = Author.from_environment({b"USER": b"joe"})


def blocks():
    text = "\n".join(line for line in TABLE.read_text().splitlines() if not line.startswith("#"))
    return [block.split("\n") for block in text.strip().split("\n\n")]


def as_bytes(shown):
    return shown.replace("\\xe9", "\xe9").replace("\\n", "\n").encode("latin-1")


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block[0])
def test_a_field_becomes_what_notqmail_makes_of_it(block):
    field = as_bytes(block[0]) + b"\n"
    header = Header(Settings(JOE, COMPLETION, b"id.example", frozenset()), when=0, pid=1)
    if block[1] == "unreadable":
        with pytest.raises(Unparsable) as caught:
            header.add([field])
        assert caught.value.line == field
        return
    header.add([field])
    header.finish()
    assert header.fields == ([] if block[1] == "none" else [as_bytes(block[1]) + b"\n"])
    sender, *recipients = [as_bytes(address) for address in block[2][1:-1].split("> <")]
    assert header.sender == sender
    assert header.recipients == recipients


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"bob", b"bob@dh.example"),
        (b"", b""),
        (b"ann smith", b"ann smith@dh.example"),
        (b'a"b@c', b'a"b@c.dd.example'),
        (b"<x@y>", b"<x@y>.dd.example"),
        (b"a@b c", b"a@bc.dd.example"),
        (b"s-@host-@[]", b"s-@host-@[]"),
        (b"#@[]", b"#@[]"),
        (b"a@b\\", b"a@b.dd.example"),
    ],
)
def test_an_argument_is_an_address_without_quotes(argument, expected):
    assert complete_address(argument, COMPLETION) == expected


def test_an_argument_with_half_a_bracket_is_refused():
    with pytest.raises(Unparsable):
        complete_address(b"a@(b", COMPLETION)


def test_completion_can_be_applied_twice():
    for text in (b"ann", b"ann@host", b"ann@host+", b"<@r:ann>", b"ann@[1.2.3.4]"):
        once = COMPLETION(parse(text))
        assert COMPLETION(list(once)) == once


def test_a_default_host_may_itself_be_incomplete():
    assert complete_address(b"ann", Completion.of(b"short", b"dd.example", b"p")) == b"ann@short.dd.example"
    assert complete_address(b"ann", Completion.of(b"short+", b"dd.example", b"p.x")) == b"ann@short.p.x"
