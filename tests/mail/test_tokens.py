"""The words of structured fields."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.mail.tokens import ATOM, COMMENT, LITERAL, QUOTE, Token, fold, parse, unparse, unquote

STRUCTURED = st.text(alphabet='ab .,@<>:;()[]"\\\n\té', max_size=60).map(lambda text: text.encode("latin-1"))


def words(line):
    return [(kind.decode(), text.decode("latin-1")) for kind, text in parse(line) if text or kind in b'a"[(']


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"Ann Smith", [("a", "Ann"), ("a", "Smith")]),
        (b'"Bob, Jr."', [('"', "Bob, Jr.")]),
        (b'"a\\"b\\\\"', [('"', 'a"b\\')]),
        (b"(lead (nested) x)", [("(", "lead nested x")]),
        (b"(\\)\\()", [("(", ")(")]),
        (b"[127.0.0.1]", [("[", "127.0.0.1")]),
        (b"a\\ b", [("a", "a b")]),
        (b"a\\\\", [('"', "a\\")]),  # a backslash cannot stand in an atom
        (b"a\\", [("a", "a")]),  # one at the very end quotes nothing
        (b"\\", [("a", "")]),
        (b"a)b]", [('"', "a)b]")]),  # closing brackets inside a word are part of it
        (b"caf\xe9", [('"', "caf\xe9")]),
        (b'a"b"', [("a", "a"), ('"', "b")]),
    ],
)
def test_words_lose_their_quotes(line, expected):
    assert words(line) == expected


@pytest.mark.parametrize("line", [b"(open", b'"open', b"[open", b")", b"]", b"a )", b'"open\\"', b"(a (b)"])
def test_brackets_that_do_not_match_make_a_line_unreadable(line):
    assert parse(line) is None


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([Token(ATOM, b"To"), Token(b":"), Token(ATOM, b"a"), Token(b","), Token(ATOM, b"b")], b"To: a, b\n"),
        ([Token(ATOM, b"J"), Token(b"."), Token(ATOM, b"Q"), Token(b"<"), Token(b">")], b"J.Q <>\n"),
        ([Token(QUOTE, b'a"b'), Token(COMMENT, b"c)"), Token(LITERAL, b"[]")], b'"a\\"b" (c\\)) [\\[\\]]\n'),
        ([Token(ATOM, b"a b\r")], b"a b\\\r\n"),
    ],
)
def test_tokens_are_written_with_the_spaces_they_need(tokens, expected):
    assert unparse(tokens) == expected


def test_the_envelope_has_no_quotes_and_no_comments():
    assert unquote(parse(b'"a b" (c) @ [1.2.3.4]')) == b"a b@[1.2.3.4]"


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([b"To: aaaa,", b" bbbb"], b"To: aaaa, bbbb\n"),
        ([b"To: aaaaaaaaaaaa,", b" bbbbb"], b"To: aaaaaaaaaaaa,\n  bbbbb\n"),
        ([b"To: " + b"a" * 30 + b",", b" b,", b" c"], b"To: " + b"a" * 30 + b",\n  b, c\n"),
        ([b"To: " + b"a" * 30 + b",", b""], b"To: " + b"a" * 30 + b",\n \n"),
    ],
)
def test_long_lists_are_folded_behind_commas(segments, expected):
    assert fold(segments, 20) == expected


@given(st.binary(max_size=80) | STRUCTURED)
def test_any_bytes_are_tokens_or_unreadable(line):
    tokens = parse(line)
    assert tokens is None or all(isinstance(token, Token) for token in tokens)


@given(STRUCTURED)
def test_what_was_written_reads_the_same(line):
    # qmail writes an atom made with backslashes without them: `a\\ b` becomes two words
    tokens = parse(line.replace(b"\\", b""))
    if tokens is not None:
        written = unparse(tokens)
        again = parse(written)
        assert again is not None
        assert unquote(again) == unquote(tokens)
        assert unparse(again) == written


@pytest.mark.parametrize(
    "line",
    [
        b"(" * 200_000,
        b"\\a" * 100_000,
        b'"' + b"\\a" * 100_000,
        b"(a)" * 60_000,
        b"a," * 100_000,
        b"[" + b"\\]" * 90_000,
    ],
)
def test_time_is_in_proportion_to_length(line):
    start = time.process_time()
    tokens = parse(line)
    if tokens:
        unparse(tokens)
    assert time.process_time() - start < 3  # seconds: a search that goes back would take hours
