"""What qmail-rspawn makes of what qmail-remote wrote. The model is report() of qmail-rspawn.c, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.remote import report

outputs = st.lists(st.sampled_from([b"r", b"h", b"s", b"K", b"Z", b"D", b"\0", b"x", b"\n"]), max_size=12).map(b"".join)


def c_string(data: bytes, at: int) -> bytes:
    return data[at:].split(b"\0", 1)[0]


def model(said: bytes) -> bytes:
    if not said:
        return b"Zqmail-remote produced no output.\n"
    result, start = -1, 0
    for at in range(len(said)):
        if said[at] == 0:
            letter = said[start : start + 1]
            if letter == b"K":
                result = 1
                break
            if letter == b"Z":
                result = 0
                break
            if letter == b"D":
                break
            start = at + 1
    recipient = {b"s": 0, b"h": -1}.get(said[:1], result)
    out = {1: b"K", 0: b"Z", -1: b"D"}[recipient]
    at = 1
    while at < len(said):
        at += 1
        if said[at - 1] == 0:
            out += c_string(said, 1)
            if result <= recipient and at < len(said) and said[at : at + 1] in (b"Z", b"D", b"K"):
                out += c_string(said, at + 1)
            break
    return out


@given(outputs)
def test_reports_are_those_of_qmail_rspawn(said: bytes) -> None:
    assert report.spawn_report(said) == model(said)


@given(
    st.lists(st.sampled_from([b"r", b"hno\n", b"slater\n", b"Kok\n", b"Zwait\n", b"Dnever\n"]), min_size=1, max_size=4)
)
def test_a_delivery_in_this_process_reports_the_same(records: list[bytes]) -> None:
    assert report.final_report(records) == model(report.join_records(records))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (9, b"Zqmail-remote crashed.\n"),
        (11 | 128, b"Zqmail-remote crashed.\n"),
        (111 << 8, b"ZUnable to run qmail-remote.\n"),
        (100 << 8, b"DUnable to run qmail-remote.\n"),
        (1 << 8, b"DUnable to run qmail-remote.\n"),
    ],
)
def test_how_the_program_ended_comes_before_what_it_said(status: int, text: bytes) -> None:
    assert report.exit_report(status, b"r\0Kok\n\0") == text


def test_a_host_name_cannot_bring_control_characters_into_a_bounce() -> None:
    assert report.no_such_host(b"a b\n\xff\x7f") == b"DSorry, I couldn't find any host named a?b???. (#5.1.2)\n"
