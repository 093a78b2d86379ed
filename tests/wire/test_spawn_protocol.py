"""The spawn protocol: whatever the cut, the same orders and reports come out, and strangers cannot grow our memory."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.wire import spawn

field = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b"0"))
widths = st.sampled_from([1, 2])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.tuples(st.integers(0, 255), field, field, field), max_size=5), st.lists(st.integers(0, 999)), widths)
def test_commands_survive_any_cut(orders: list[tuple[int, bytes, bytes, bytes]], cuts: list[int], width: int) -> None:
    wire = b"".join(spawn.encode_command(*order, width) for order in orders)
    decoder = spawn.CommandDecoder(width)

    got = [command for piece in pieces(wire, cuts) for command in decoder.feed(piece)]

    assert [command[:4] for command in got] == orders
    assert not any(command.cut for command in got)


@given(st.lists(st.tuples(st.integers(0, 255), field), max_size=5), st.lists(st.integers(0, 999)), widths)
def test_reports_survive_any_cut(reports: list[tuple[int, bytes]], cuts: list[int], width: int) -> None:
    wire = b"".join(spawn.encode_report(*report, width) for report in reports)
    decoder = spawn.ReportDecoder(width)

    assert [report for piece in pieces(wire, cuts) for report in decoder.feed(piece)] == reports


@given(st.lists(st.binary(max_size=300), max_size=10), widths)
def test_garbage_never_raises(chunks: list[bytes], width: int) -> None:
    commands, reports = spawn.CommandDecoder(width), spawn.ReportDecoder(width)
    for chunk in chunks:
        commands.feed(chunk)
        reports.feed(chunk)


@pytest.mark.parametrize("size", [1, 1000, 70000])
def test_a_huge_field_is_cut_and_the_next_order_is_whole(size: int) -> None:
    wire = spawn.encode_command(7, b"1/1", b"x" * 300_000, b"a@b") + spawn.encode_command(8, b"2/2", b"s", b"r@h")
    decoder = spawn.CommandDecoder()
    got = []
    for start in range(0, len(wire), size):
        got += decoder.feed(wire[start : start + size])
        assert len(decoder._pending) <= spawn.COMMAND_MAX

    assert (got[0].number, got[0].message, got[0].recipient, got[0].cut) == (7, b"1/1", b"a@b", True)
    assert got[1] == (8, b"2/2", b"s", b"r@h", False)


def test_a_huge_report_is_cut_and_the_next_one_is_whole() -> None:
    decoder = spawn.ReportDecoder()
    wire = spawn.encode_report(1, b"D" + b"x" * 50_000) + spawn.encode_report(2, b"Kok")
    got = [report for start in range(0, len(wire), 777) for report in decoder.feed(wire[start : start + 777])]

    assert got == [(1, b"D" + b"x" * (spawn.REPORT_MAX - 1)), (2, b"Kok")]
    assert spawn.ReportDecoder().feed(wire) == got


def test_delivery_number_zero_is_no_end_of_text() -> None:
    assert spawn.ReportDecoder(2).feed(b"\0\0Kok\0\0\1Z\0") == [(0, b"Kok"), (256, b"Z")]
    assert spawn.ReportDecoder().feed(b"\0\0") == [(0, b"")]


def test_limit_round_trips() -> None:
    assert spawn.encode_limit(120) == b"x"
    assert spawn.decode_limit(spawn.encode_limit(1000, 2)) == 1000


@pytest.mark.parametrize(
    ("message", "recipient", "report"),
    [
        (b"1/24", b"joe@example.org", None),
        (b"24", b"joe@example.org", None),
        (b"", b"joe@example.org", b"DInternal error: messid too short. (#5.3.5)\n"),
        (b"../24", b"joe@example.org", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        (b"/24", b"joe@example.org", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        (b"1" * 100, b"joe@example.org", b"DInternal error: messid too long. (#5.3.5)\n"),
        (b"1/24", b"joe", b"DSorry, address must include host name. (#5.1.3)\n"),
    ],
)
def test_orders_that_nobody_may_carry_out(message: bytes, recipient: bytes, report: bytes | None) -> None:
    assert spawn.complaint(spawn.Command(3, message, b"", recipient), 120) == report


def test_numbers_beyond_the_limit_are_refused_first() -> None:
    assert spawn.complaint(spawn.Command(120, b"x", b"", b"joe"), 120) == b"ZInternal error: delnum too big. (#4.3.5)\n"
    assert spawn.complaint(spawn.Command(0, b"1", b"", b"", True), 120) == b"Zqmail-spawn out of memory. (#4.3.0)\n"
