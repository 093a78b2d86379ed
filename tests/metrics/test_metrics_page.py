"""Figures in shared memory: one writer, any reader, and they outlive the role."""

from __future__ import annotations

import math
import os
import re

from hypothesis import given
from hypothesis import strategies as st

from pluq.metrics import Board, Histogram, Page, page, series
from pluq.metrics.board import ROLES, claim
from pluq.metrics.families import FAMILIES
from pluq.metrics.page import NAMES, PAGE_BYTES, SLOTS, VALUES, parse_series, read
from pluq.metrics.text import Sample, Totals, exposition


def figures(board):
    return Totals(Sample(name, labels, value) for _role, name, labels, value in board.read())


def in_child(work):
    """Run `work` in a process of its own, as a role is."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_role_goes_on_counting_after_a_restart_and_its_gauges_begin_anew():
    board = Board()

    def life():
        board.enter("send")
        mine = page()
        mine.add("pluq_messages_total")
        mine.add(series("pluq_deliveries", channel="local"), 3)

    in_child(life)
    assert figures(board).total("pluq_deliveries", channel="local") == 3
    in_child(lambda: board.enter("send"))
    assert figures(board).total("pluq_messages_total") == 1
    assert figures(board).total("pluq_deliveries", channel="local") == 0
    in_child(life)
    assert figures(board).total("pluq_messages_total") == 2


def test_a_role_has_no_memory_of_another():
    board = Board()

    def life():
        board.enter("smtpd")
        assert board._memory == {}
        assert not hasattr(board, "census")

    in_child(life)


def test_a_process_that_a_role_forks_has_no_page():
    board = Board()

    def life():
        board.enter("lspawn")
        assert page() is not None
        in_child(lambda: (page() is None) or os._exit(1))

    in_child(life)


def test_a_successor_does_not_write_the_page_of_one_that_still_lives():
    board = Board()
    memory = board._memory["smtpd"]
    mine = claim(memory, 0)
    mine.add("pluq_messages_total")

    def successor():
        other = claim(memory, 0)
        other.add("pluq_bounces_total", 5)

    in_child(successor)
    assert figures(board).total("pluq_messages_total") == 1
    assert figures(board).total("pluq_bounces_total") == 5


def test_a_series_without_a_place_is_counted_as_dropped():
    whole = bytearray(PAGE_BYTES)
    mine = Page(whole)
    for number in range(SLOTS + 10):
        mine.add(series("pluq_refused_total", profile="mx", reason=str(number)))
    dropped = {name: value for name, _labels, value in read(memoryview(whole))}["pluq_series_dropped_total"]
    assert dropped == 11


@given(st.binary(max_size=400), st.binary(max_size=64))
def test_a_reader_survives_whatever_a_page_holds(text, values):
    whole = bytearray(PAGE_BYTES)
    whole[NAMES : NAMES + len(text)] = text
    whole[VALUES : VALUES + len(values)] = values
    for length in (len(text), 2**63, PAGE_BYTES):
        whole[:8] = length.to_bytes(8, "little")
        found = [Sample(*row) for row in read(memoryview(whole))]
        for line in exposition(Totals(found)).splitlines():
            assert line.startswith(("# ", "pluq_"))
        Page(bytearray(whole)).add("pluq_messages_total")


@given(st.dictionaries(st.sampled_from(["profile", "reason"]), st.text(max_size=30), min_size=1))
def test_labels_come_back_as_they_were(labels):
    assert parse_series(series("pluq_x", **labels)) == ("pluq_x", labels)


def test_a_histogram_is_cumulated_for_prometheus():
    whole = bytearray(PAGE_BYTES)
    mine = Page(whole)
    histogram = Histogram(mine, "pluq_acceptance_seconds", profile="mx")
    for seconds in (0.0005, 0.002, 0.002, 99.0):
        histogram.observe(seconds)
    text = exposition(Totals(Sample(*row) for row in read(memoryview(whole))))
    assert 'pluq_acceptance_seconds_bucket{profile="mx",le="0.001"} 1\n' in text
    assert 'pluq_acceptance_seconds_bucket{profile="mx",le="0.0025"} 3\n' in text
    assert 'pluq_acceptance_seconds_bucket{profile="mx",le="+Inf"} 4\n' in text
    assert 'pluq_acceptance_seconds_count{profile="mx"} 4\n' in text


def test_the_same_series_of_two_processes_is_one():
    totals = Totals(
        [Sample("pluq_connections", {"profile": "mx"}, 2), Sample("pluq_connections", {"profile": "mx"}, 3)]
    )
    assert totals.of("pluq_connections") == [({"profile": "mx"}, 5)]
    assert totals.by("pluq_connections", "profile") == {"mx": 5}


def test_what_is_no_figure_of_ours_is_left_out():
    totals = Totals(
        [
            Sample("evil", {}, 1),
            Sample("pluq_connections", {"profile": "mx", "address": "joe@example.org"}, 1),
            Sample("pluq_connections", {"profile": "mx"}, math.nan),
        ]
    )
    assert exposition(totals) == ""


def test_families_are_declared_once_with_a_sentence():
    names = [family.name for family in FAMILIES]
    assert sorted(set(names)) == sorted(names)
    for family in FAMILIES:
        assert family.name.startswith("pluq_")
        assert family.help.endswith(".")
        assert (family.kind == "histogram") == bool(family.bounds)
        assert family.name.endswith("_total") == (family.kind == "counter")


def test_the_roles_of_the_board_are_those_of_the_stack():
    assert {"smtpd", "send", "queue", "rspawn", "lspawn"} <= set(ROLES)


SAMPLE = re.compile(r'([a-z_]+)(\{[a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+')


@given(st.lists(st.tuples(st.sampled_from(FAMILIES), st.text(max_size=8), st.floats(0, 1e12)), max_size=30))
def test_what_prometheus_reads_is_well_formed(counted):
    samples = []
    for family, text, value in counted:
        labels = dict.fromkeys(family.labels, text)
        if family.kind == "histogram":
            samples.append(Sample(f"{family.name}_bucket", {**labels, "le": "+Inf"}, float(int(value))))
            samples.append(Sample(f"{family.name}_sum", labels, value))
        else:
            samples.append(Sample(family.name, labels, value))
    seen, last = set(), None
    for line in exposition(Totals(samples)).removesuffix("\n").split("\n") if samples else ():
        if line.startswith("# HELP "):
            last = line.split(" ")[2]
            assert last not in seen, "each family once"
            seen.add(last)
        elif not line.startswith(f"# TYPE {last} "):
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert found[1] in (last, f"{last}_bucket", f"{last}_sum", f"{last}_count")
