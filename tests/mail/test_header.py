"""Where a header ends, what a field is, how address lists are read."""

import io

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pluq.mail import header
from pluq.mail.header import field_body, field_name, is_field, read_header, rewrite_addresses
from pluq.mail.tokens import Token, parse, unparse, unquote


def read(data):
    source = io.BytesIO(data)
    fields, body = read_header(source.readline)
    return fields, body + source.read()


@pytest.mark.parametrize(
    ("data", "fields", "body"),
    [
        (b"", [], b""),
        (b"\nbody", [], b"\nbody"),
        (b"A: 1\n 2\n\t3\nB: 4\n\nbody\n", [b"A: 1\n 2\n\t3\n", b"B: 4\n"], b"\nbody\n"),
        (b"A: 1", [b"A: 1\n"], b""),
        (b"A: 1\nnot a field\nB: 2\n", [b"A: 1\n"], b"\nnot a field\nB: 2\n"),
        (b" A: 1\nB: 2\n", [], b"\n A: 1\nB: 2\n"),
        (b"From joe Thu\nA: 1\n\n", [b"MBOX-Line: From joe Thu\n", b"A: 1\n"], b"\n"),
        (b"A: 1\r\n\r\nx\r\n", [b"A: 1\r\n"], b"\n\r\nx\r\n"),  # a line with a CR is not empty
        (b"A: 1\n: 2\n", [b"A: 1\n"], b"\n: 2\n"),
        (b"A : 1\n\n", [b"A : 1\n"], b"\n"),
        (b"A: 1\nlast", [b"A: 1\n"], b"\nlast\n"),
    ],
)
def test_a_header_ends_at_an_empty_line_or_before_what_is_no_field(data, fields, body):
    assert read(data) == (fields, body)


@given(st.lists(st.sampled_from([b"A: 1", b" more", b"\n", b"x", b"From a", b"B", b":", b"yyyyyyyyy"]), max_size=12))
def test_long_lines_are_read_in_pieces_with_the_same_result(parts):
    data = b"".join(parts) + b"\n"
    assume(all(line.find(b":") < 7 for line in data.split(b"\n")))  # a name has to end within the first piece
    whole = read(data)
    old, header.PIECE = header.PIECE, 7
    try:
        assert read(data) == whole
    finally:
        header.PIECE = old


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"To: x", True),
        (b"To \t: x", True),
        (b"X!~:", True),
        (b"To", False),
        (b": x", False),
        (b" :", False),
        (b"a b: x", False),
        (b"S\xfcbject: x", False),
        (b"To\x7f: x", False),
    ],
)
def test_a_field_has_a_name_of_visible_ascii(line, expected):
    assert is_field(line) is expected


def test_names_are_compared_in_lower_case_without_blanks():
    assert field_name(b"Reply-TO \t: x\n") == b"reply-to"
    assert field_name(b"no colon\n") == b""
    assert field_body(b"Subject: \t x y\n") == b"x y\n"


def rewritten(line, seen=None):
    """Return the list with @h behind each address, and note the addresses in `seen`."""

    def rewrite(address):
        if seen is not None:
            seen.append(unquote(address))
        return [*address, Token(b"@"), Token(b"a", b"h")]

    tokens = rewrite_addresses(parse(line), rewrite)
    return None if tokens is None else unparse(tokens)


# What notqmail's token822.c makes of each list, with a rewriting that puts @h behind every address.
LISTS = [
    (b"To: a", b"To: a@h\n", [b"a"]),
    (b"To: a b", b"To: a@h, b@h\n", [b"b", b"a"]),
    (b"To: a,,b,", b"To: a@h, , b@h,\n", [b"b", b"a"]),
    (b"To: A B <c>, d", b"To: A B <c@h>, d@h\n", [b"d", b"c"]),
    (b"To: a (x)", b"To: a@h (x)\n", [b"a"]),
    (b"To: (x) a", b"To: a@h (x)\n", [b"a"]),
    (b"To: <>", b"To: <@h>\n", [b""]),
    (b"To: g: a, b;", b"To: g: a@h, b@h;\n", [b"b", b"a"]),
    (b"To: g: ;, c", b"To: g: ;, c@h\n", [b"c"]),
    (b"To: x, g: a;", b"To: x@h, g: a@h;\n", [b"a", b"x"]),
    (b"To: a.b . c", b"To: a.b.c@h\n", [b"a.b.c"]),
    (b"To: a; b", b"To: a@h;, b@h\n", [b"b", b"a"]),
    (b"To: [1] <a>", b"To: [1]@h <a@h>\n", [b"a", b"[1]"]),
    (b"To: <a> b", b"To: <a@h>, b@h\n", [b"b", b"a"]),
    (b"To: <a", b"To: <a@h\n", [b"<a"]),
    (b"To:", b"To:\n", []),
]


@pytest.mark.parametrize(("line", "expected", "addresses"), LISTS)
def test_address_lists_are_read_from_right_to_left(line, expected, addresses):
    seen = []
    assert rewritten(line, seen) == expected
    assert seen == addresses


@pytest.mark.parametrize(
    ("line", "addresses"),
    [(b"To: a>", [b"a"]), (b"To: x: y", [b"y"]), (b"To: a;b;", [b"b"]), (b"To: b c>, a", [b"a", b"bc"])],
)
def test_a_list_that_is_none_is_said_to_be_none_after_what_was_read(line, addresses):
    seen = []
    assert rewritten(line, seen) is None
    assert seen == addresses


@given(st.text(alphabet='ab .,@<>:;()"', max_size=40).map(str.encode))
def test_a_list_that_needs_nothing_is_written_the_same_twice(text):
    tokens = parse(b"To: " + text)
    if tokens is None:
        return
    once = rewrite_addresses(tokens, lambda address: address)
    if once is not None:
        twice = rewrite_addresses(once, lambda address: address)
        assert twice is not None
        assert unparse(twice) == unparse(once)
