"""The short way of reading an answer says what dnspython says, or nothing."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.dns import codec
from pluq.dns.codec import Answer, decode_answer, usual_records
from pluq.errors import PluqError

NAME = b"mx1._domainkey.example.org"


def response(name: str, rdtype: str, values: list[str], ttl: int = 60) -> bytes:
    """Return a recursive server's response with these records, and what such a server adds."""
    answer = dns.message.make_response(dns.message.make_query(name, rdtype), recursion_available=True)
    if values:
        answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", rdtype, *values))
    answer.authority.append(dns.rrset.from_text("example.org.", 60, "IN", "NS", "ns.example.org."))
    answer.additional.append(dns.rrset.from_text("ns.example.org.", 60, "IN", "A", "192.0.2.53"))
    return answer.to_wire()


def by_dnspython(wire: bytes, name: bytes, rdtype: str) -> Answer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "usual_records", lambda *_: None)
        return decode_answer(wire, name, rdtype)


def agree(wire: bytes, name: bytes, rdtype: str) -> None:
    if len(wire) > 3 and wire[3] & 15 in (0, 3) and usual_records(wire, name, rdtype) is not None:
        assert decode_answer(wire, name, rdtype) == by_dnspython(wire, name, rdtype)


@pytest.mark.parametrize(
    ("rdtype", "values"),
    [
        ("A", ["192.0.2.1"]),
        ("A", ["192.0.2.2", "192.0.2.1", "192.0.2.2"]),
        ("TXT", ['"v=DKIM1; " "p=abc"']),
        ("TXT", ['""', '"a" "bc"', '"ab" "c"', '"\\000\\255"']),
    ],
)
def test_the_usual_answers_go_the_short_way_and_say_the_same(rdtype: str, values: list[str]) -> None:
    for ttl in (0, 60, 1_000_000):
        wire = response(NAME.decode(), rdtype, values, ttl)
        assert usual_records(wire, NAME, rdtype) is not None
        assert decode_answer(wire, NAME, rdtype) == by_dnspython(wire, NAME, rdtype)
        # The case of the question is a matter of the server.
        wire = wire.replace(b"example", b"eXample", 1)
        assert decode_answer(wire, NAME, rdtype) == by_dnspython(wire, NAME, rdtype)


@pytest.mark.parametrize(
    ("name", "rdtype", "asked"),
    [
        ("mx1._domainkey.example.org", "A", "TXT"),
        ("other.example.org", "TXT", "TXT"),
        ("mx1._domainkey.example.org", "MX", "MX"),
    ],
)
def test_an_answer_to_something_else_never_goes_the_short_way(name: str, rdtype: str, asked: str) -> None:
    values = {"A": "192.0.2.1", "TXT": '"x"', "MX": "10 a.example.org."}
    assert usual_records(response(name, rdtype, [values[rdtype]]), NAME, asked) is None
    assert usual_records(response(NAME.decode(), asked, []), NAME, asked) is None


BASES = {
    "A": response(NAME.decode(), "A", ["192.0.2.2", "192.0.2.1"]),
    "TXT": response(NAME.decode(), "TXT", ['"v=spf1 -all"', '"a" "b"']),
}


@given(
    st.sampled_from(sorted(BASES)),
    st.lists(st.tuples(st.integers(2, 200), st.integers(0, 255)), max_size=4),
    st.integers(0, 40),
)
def test_damage_is_read_as_dnspython_reads_it_or_not_the_short_way(
    rdtype: str, changes: list[tuple[int, int]], cut: int
) -> None:
    wire = bytearray(BASES[rdtype])
    for at, octet in changes:
        wire[at % len(wire)] = octet
    agree(bytes(wire[: len(wire) - cut]), NAME, rdtype)


@given(st.binary(min_size=12, max_size=80), st.binary(max_size=30), st.sampled_from(("A", "TXT")))
def test_no_bytes_break_the_short_way(behind: bytes, name: bytes, rdtype: str) -> None:
    try:
        question = codec.encode_question(name, rdtype)
        usual_records(b"\0\0\x81\x80\0\1" + behind[:6] + question + behind, name, rdtype)
    except PluqError:
        return
