"""Dates: qmail's forms to the byte."""

import time

import pytest

from pluq.mail.date import date822, mbox_date, message_stamp, zone822

WHEN = 1795195217  # 20 Nov 2026 17:20:17 UTC


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (WHEN, b"20 Nov 2026 17:20:17 -0000"),
        (0, b"1 Jan 1970 00:00:00 -0000"),
        (951782400, b"29 Feb 2000 00:00:00 -0000"),
        (4102444799, b"31 Dec 2099 23:59:59 -0000"),
        (-1, b"31 Dec 1969 23:59:59 -0000"),
    ],
)
def test_a_header_date_has_no_weekday_and_no_leading_zero(when, expected):
    assert date822(when) == expected


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC0", b"20 Nov 2026 17:20:17 +0000"),
        ("XXX-5:30", b"20 Nov 2026 22:50:17 +0530"),
        ("YYY8", b"20 Nov 2026 09:20:17 -0800"),
    ],
)
def test_a_local_date_names_its_zone(monkeypatch, zone, expected):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert date822(WHEN, local=True) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_zone_is_rounded_to_the_minute():
    assert zone822(-(3 * 3600 + 29 * 60 + 45)) == b"-0330"
    assert zone822(1172) == b"+0020"


def test_the_mbox_date_has_two_digits_for_the_day():
    assert mbox_date(1000000000) == b"Sun Sep 09 01:46:40 2001"


def test_the_stamp_holds_time_and_process():
    assert message_stamp(WHEN, 1234) == b"20261120172017.1234.qmail"
