"""From an exit code to a report."""

import pytest

from pluq.local.report import CRASHED, FIXED, KEPT_BYTES, TOO_LONG, report


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, b"Ktext\n"), (100, b"Dtext\n"), (1, b"Dtext\n"), (99, b"Dtext\n"), (255, b"Dtext\n"), (-9, CRASHED)]
    + [(code, b"Ztext\n") for code in (111, 71, 74, 75)]
    + list(FIXED.items()),
)
def test_the_exit_code_decides(code, expected):
    assert report(code, b"text\n") == expected


def test_a_report_ends_at_a_nul():
    assert report(0, b"before\0after") == b"Kbefore"


def test_a_long_report_is_cut_and_says_so():
    assert report(111, b"x" * 3000) == b"Z" + b"x" * 3000
    assert report(111, b"x" * 3001) == b"Z" + b"x" * KEPT_BYTES + TOO_LONG
