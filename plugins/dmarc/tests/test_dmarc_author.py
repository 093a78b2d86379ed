"""dmarc: the From of a stranger, octet by octet."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq_dmarc.author import authors, visible
from pluq_dmarc.record import parse_record

PIECES = st.sampled_from(
    [b"(", b")", b'"', b"\\", b"<", b">", b"@", b",", b";", b":", b" ", b"\n ", b"\r", b"a", b".", b"=?utf-8?q?", b"?="]
)


@given(st.lists(PIECES | st.binary(max_size=4), max_size=40).map(b"".join))
def test_any_octets_give_domain_names_or_none(value: bytes) -> None:
    found = authors(b"From: " + value + b"\n")
    for name in found.domains:
        assert name.isascii()
        assert name == name.strip().lower()
        assert not set(name) & set(' ;"()<>\r\n\0')


@given(st.sampled_from([b"", b"Ann ", b'"Ann, (x@y.test" ', b"(a (b\\)) c@d.test) "]))
def test_what_is_quoted_or_a_comment_is_no_author(phrase: bytes) -> None:
    assert authors(b"From: " + phrase + b"<ann@good.test>\n").domains == ("good.test",)


@given(st.binary(max_size=200))
def test_any_octets_are_a_record_or_none(text: bytes) -> None:
    parse_record(text)
    parse_record(b"v=DMARC1;" + text)


@pytest.mark.parametrize(
    "unit", [b"(", b'"', b"\\", b'\\"', b"@", b"=?a?q?", b"(\\", b'"(', b"@a.", b" @ ", b"\n ", b"\n From:"]
)
def test_a_long_field_takes_linear_time(unit: bytes) -> None:
    value = unit * (500_000 // len(unit))
    began = time.process_time()
    authors(b"From: " + value + b"x@good.test\n")
    assert time.process_time() - began < 5


def test_what_is_not_closed_hides_nothing() -> None:
    assert visible(b"a (b (c) d@e.test") == b"a b (c) d@e.test"
    assert visible(b'a "b@c.test') == b'a "b@c.test'
