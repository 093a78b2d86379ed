"""dkim: tag lists and canonical forms, against plain definitions of them."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import HeaderField
from pluq.errors import ProtocolError
from pluq.signatures.canon import BodyHash, relaxed_field, simple_field, sum_body, without_value
from pluq.signatures.tags import domain, number, octets, parse_tags
from pluq_dkim.options import parse_filter_line, parse_key_line, parse_variables

BODIES = st.lists(st.sampled_from([b" ", b"\t", b"\n", b"  ", b"\n\n", b"x", b"yy", b"\r", b"\xff"]), max_size=40).map(
    b"".join
)


def plain_body(body: bytes, name: str) -> bytes:
    """The definition of RFC 6376 section 3.4, word by word."""
    body = body.replace(b"\n", b"\r\n")
    if name == "relaxed":
        body = re.sub(rb"[ \t]+\r\n", b"\r\n", re.sub(rb"[ \t]+", b" ", body))
        body = re.sub(rb" \Z", b"", body)
    body = re.sub(rb"(\r\n)+\Z", b"", body)
    return b"" if not body and name == "relaxed" else body + b"\r\n"


@given(BODIES, st.sampled_from(["simple", "relaxed"]), st.integers(1, 9))
def test_a_body_in_pieces_of_any_size_has_the_form_of_the_rfc(body: bytes, name: str, cut: int) -> None:
    whole = plain_body(body, name)
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
    (found,) = sum_body(pieces, [(name, None)]).values()
    assert found == (hashlib.sha256(whole).digest(), len(whole))


@given(BODIES, st.sampled_from(["simple", "relaxed"]), st.integers(0, 50))
def test_no_more_than_the_limit_is_hashed(body: bytes, name: str, limit: int) -> None:
    whole = plain_body(body, name)
    (found,) = sum_body([body], [(name, limit)]).values()
    assert found == (hashlib.sha256(whole[:limit]).digest(), len(whole))


def test_a_gigabyte_of_empty_lines_takes_no_memory() -> None:
    held = BodyHash("relaxed")
    for _ in range(1000):
        held.feed(b" \n" * 50_000)
    assert held.finish() == (hashlib.sha256(b"").digest(), 0)


def test_the_examples_of_the_rfc() -> None:
    a = HeaderField(b"a", b"A: X\n")
    b = HeaderField(b"b", b"B : Y\t\n\tZ  \n")
    assert relaxed_field(a) + relaxed_field(b) == b"a:X\r\nb:Y Z\r\n"
    assert simple_field(a) + simple_field(b) == b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
    body = b" C \nD \t E\n\n\n"
    assert sum_body([body], [("relaxed", None)])["relaxed", None].digest == hashlib.sha256(b" C\r\nD E\r\n").digest()
    assert sum_body([body], [("simple", None)])["simple", None].digest == hashlib.sha256(b" C \r\nD \t E\r\n").digest()
    assert sum_body([b""], [("simple", None)])["simple", None].digest == hashlib.sha256(b"\r\n").digest()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"v=1; b=abc\n", b"v=1; b="),
        (b"b=abc; v=1\n", b"b=; v=1"),
        (b"v=1; bh=x=; b =\n abc\n\t def ; h=from\n", b"v=1; bh=x=; b =; h=from"),
        (b"v=1;\n\tb=ab\n cd  \n", b"v=1;\n\tb="),
        (b"v=1; xb=b=1; b=2;\n", b"v=1; xb=b=1; b=;"),
    ],
)
def test_only_the_value_of_b_is_taken_out(before: bytes, after: bytes) -> None:
    field = HeaderField(b"dkim-signature", b"DKIM-Signature: " + before)
    assert without_value(field).raw == b"DKIM-Signature: " + after


NAMES = st.text("abcABC0_", min_size=1, max_size=4).filter(lambda name: name[0].isalpha())
VALUES = st.text("abc019=:/+.@ \t", max_size=12)


@given(
    st.dictionaries(NAMES, VALUES, max_size=6), st.sampled_from(["", ";", " ; \n"]), st.sampled_from([";", " ;\n\t"])
)
def test_a_list_of_tags_is_read_as_it_was_written(tags: dict[str, str], end: str, glue: str) -> None:
    text = glue.join(f"{name} = {value}" for name, value in tags.items()) + (end if tags else "")
    expected = {name.encode(): value.strip(" \t").encode() for name, value in tags.items()}
    assert parse_tags(text.encode()) == expected


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_of_tags_or_a_protocol_error(data: bytes) -> None:
    for parse in (parse_tags, octets, number, domain):
        try:
            parse(data)
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    "text", [b"a=1;a=2", b"a", b"=1", b"1a=1", b"a b=1", b"a=1;;b=2", b"a=\0", b"a=\xff", b"a=x;" + b"y" * 20000]
)
def test_what_is_no_list_of_tags_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_tags(text)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"a..b",
        b".a",
        b"a.",
        b"-a.test",
        b"a-.test",
        b"a/b",
        b"a b",
        b"x" * 64,
        b"\xc3",
        b"a." * 130 + b"a",
        b"a\n",
    ],
)
def test_what_is_no_domain_is_refused(name: bytes) -> None:
    with pytest.raises(ProtocolError):
        domain(name)


def test_lists_of_variables_are_read_as_qmail_reads_them() -> None:
    assert parse_variables(r"A=1,B=x\,y,C=,D,E=a=b") == {"A": "1", "B": "x,y", "E": "a=b"}
    line = parse_key_line("Example.org:/k/s1:A=1,B=2")
    assert (line.domain, line.path, line.variables) == ("example.org", "/k/s1", {"A": "1", "B": "2"})
    assert parse_filter_line("*:remote:/bin/cat:A=1") is None
    assert parse_filter_line("*:local:qmail-dkim") is None
    found = parse_filter_line("*:remote:/v/bin/qmail-dkim -x:A=1")
    assert found is not None
    assert found.variables == {"A": "1"}
