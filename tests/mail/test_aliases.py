"""Sendmail's lists: what they ask for, and what the databases hold. The tables are what fastforward 0.51 makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.mail.aliases import Defaults, Kind, compile_aliases, compile_include, list_entries

DEFAULTS = Defaults(b"dh.example", b"dd.example", b"plus.example")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"bob, fred, susan", [(Kind.ADDRESS, b"susan"), (Kind.ADDRESS, b"fred"), (Kind.ADDRESS, b"bob")]),
        (b"Joe Shmoe <shmoe@x> (hi)", [(Kind.ADDRESS, b"shmoe@x")]),
        (b'bob, "|vacation bob"', [(Kind.PROGRAM, b"vacation bob"), (Kind.ADDRESS, b"bob")]),
        (b"|prog", [(Kind.PROGRAM, b"prog")]),
        (b'"|a"@host', [(Kind.ADDRESS, b"|a@host")]),
        (b"/dev/null", [(Kind.FILE, b"/dev/null")]),
        (b":include:/etc/list, a", [(Kind.ADDRESS, b"a"), (Kind.INCLUDE, b"/etc/list")]),
        (b'x: :include:"a b"', [(Kind.INCLUDE, b"a b"), (Kind.ADDRESS, b"x")]),
        (b"<>", [(Kind.ADDRESS, b"")]),
        (b"a; b: c", [(Kind.ADDRESS, b"c"), (Kind.ADDRESS, b"b"), (Kind.ADDRESS, b"a")]),
    ],
)
def test_a_line_is_a_list_of_things_to_do(line, expected):
    assert [entry[:2] for entry in list_entries(line + b"\n")] == expected


@pytest.mark.parametrize("line", [b"a>", b"(open", b'"open'])
def test_a_line_without_its_brackets_is_put_off(line):
    with pytest.raises(TemporaryFailure, match="unable to parse this line"):
        list_entries(line)


@given(st.text(alphabet='a ,:;<>@."()\\|/', max_size=30).map(str.encode))
def test_any_line_is_read_or_put_off(line):
    try:
        entries = list_entries(line)
    except TemporaryFailure:
        return
    assert all(entry.kind in Kind for entry in entries)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"a@", b"a@dh.example"),
        (b"a@b", b"a@b.dd.example"),
        (b"a@b+", b"a@b.plus.example"),
        (b"a@b.c", b"a@b.c"),
        (b"a.b@c", b"a.b@c.dd.example"),
    ],
)
def test_addresses_are_completed(address, expected):
    assert DEFAULTS.complete(address) == expected


ALIASES = [
    (b"root: alice, bill\n", [(b":root@", b"&bill@dh.example\0&alice@dh.example\0")]),
    (b"Root@Host: A\n", [(b":root@host", b"&A@dh.example\0")]),
    (b"@virt.dom: joe\n", [(b":@virt.dom", b"&joe@dh.example\0")]),
    (b"x:\n   fred,\n\n   joe\n", [(b":x@", b"&joe@dh.example\0&fred@dh.example\0")]),
    (b"# c\n  d: e\n\n", []),
    (b'w: "|server -x"\n', [(b":w@", b"!server -x\0")]),
    (b"s: :include:list, :include:/l\n", [(b":s@", b"/l.bin\0./list.bin\0")]),
    (b"owner-sos: ann\n", [(b"?sos@", b"owner-sos@dh.example"), (b":owner-sos@", b"&ann@dh.example\0")]),
    (b"last: line", [(b":last@", b"&line@dh.example\0")]),
]


@pytest.mark.parametrize(("text", "records"), ALIASES)
def test_aliases_become_records(text, records):
    assert list(compile_aliases(text.splitlines(keepends=True), DEFAULTS)) == records


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (b"alone\n", TemporaryFailure),
        (b'"|program": \n', TemporaryFailure),
        (b"a: /file\n", TemporaryFailure),
        (b"a: <>\n", TemporaryFailure),
        (b"a: " + b"x" * 900 + b"\n", PermanentFailure),
        (b'a: "x\0y"\n', TemporaryFailure),
    ],
)
def test_what_has_no_meaning_in_an_alias_is_refused(text, failure):
    with pytest.raises(failure):
        list(compile_aliases(text.splitlines(keepends=True), DEFAULTS))


def test_an_include_file_becomes_a_list():
    lines = [b"ann, bob@host\n", b"#c\n", b":include:more\n", b"<>\n"]
    assert list(compile_include(lines, DEFAULTS)) == [b"&bob@host.dd.example\0", b"&ann@dh.example\0", b"./more\0"]


@pytest.mark.parametrize("line", [b"|prog", b"/file", b':include:""', b'"a\nb"', b"x" * 900, b'x@"y. "'])
def test_what_a_list_cannot_hold_is_refused(line):
    with pytest.raises(TemporaryFailure):
        list(compile_include([line], DEFAULTS))
