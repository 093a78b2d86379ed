"""Reading a log again: every time that a logger writes, every line that qmail-send writes."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.log import lines, objects
from pluq.log.about import About
from pluq.log.read import parse, split_time

WHEN = datetime(2026, 11, 21, 15, 16, 54, 250000, tzinfo=UTC).timestamp()
LABEL = b"@%016x%08x" % (int(WHEN) + 2**62 + 10, 250_000_000)


@pytest.fixture(autouse=True)
def paris(monkeypatch):
    """Local times are those of a zone that is not UTC."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    for cached in ("_second", "_syslog"):
        getattr(__import__("pluq.log.read", fromlist=[cached]), cached).cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "line",
    [
        LABEL + b" new msg 42",
        b"1795274214.250000 new msg 42",
        b"2026-11-21 16:16:54.250000000 new msg 42",  # tai64nlocal
        b"2026-11-21_15:16:54.25000 new msg 42",  # svlogd -tt
        b"2026-11-21T15:16:54.25Z host pluq[12]: new msg 42",
        b"2026-11-21T16:16:54.250000+01:00 host qmail: new msg 42",  # rsyslog
        b"2026-11-21T16:16:54,250+0100 host qmail: new msg 42",  # journalctl -o short-iso
        b"1795274214.250000 host pluq[12]: new msg 42",  # journalctl -o short-unix
        b"Nov 21 16:16:54 host qmail: 1795274214.250000 new msg 42",  # splogger
        b'{"time":"2026-11-21T15:16:54.250000Z","event":"new","role":"send","message":42}',
    ],
)
def test_a_line_has_the_time_that_its_logger_wrote(line):
    when, rest = split_time(line)
    assert when == pytest.approx(WHEN, abs=0.001)
    assert parse(rest) == ("new", 42)


def test_a_syslog_time_is_in_the_last_twelve_months():
    when, rest = split_time(b"Dec  3 04:05:06 host qmail: end msg 7")
    assert parse(rest) == ("end", 7)
    assert when is not None
    assert time.time() - 366 * 86400 < when < time.time() + 2 * 86400
    assert time.localtime(when)[1:6] == (12, 3, 4, 5, 6)


@pytest.mark.parametrize(
    "line", [b"new msg 42", b"@400000 new msg 42", b"@zzzzzzzzzzzzzzzzzzzzzzzz new msg", b"9x new", b"{", b""]
)
def test_a_line_without_a_time_stays_as_it_is(line):
    assert split_time(line) == (None, line)


EVENTS = [
    (("new", 42), lambda form: form.new_message(42)),
    (("info", 42, 813, b"s@example.net", 99, 1000), lambda form: form.info(42, 813, b"s@example.net", 99, 1000)),
    (("info", 42, 813, b"a_b>_qp_1@x", 99, 0), lambda form: form.info(42, 813, b"a b> qp 1@x", 99, 0)),
    (("start", 7, 42, b"local", b"joe@example.org"), lambda form: form.starting(7, 42, b"local", b"joe@example.org")),
    (("delivery", 7, b"success", b"did_1+0+0/"), lambda form: form.delivered(7, b"K", b"did 1+0+0\n")),
    (("delivery", 7, b"failure", b"No:_such_user/"), lambda form: form.delivered(7, b"D", b"No: such user\n")),
    (("delivery", 7, b"deferral", b"later/"), lambda form: form.delivered(7, b"Z", b"later\n")),
    (("end", 42), lambda form: form.end_message(42)),
    (("bounce", 42, 99), lambda form: form.bounced(42, 99)),
    (("warning", b"trouble"), lambda form: form.warning("trouble")),
    (("alert", b"help"), lambda form: form.alert("help")),
    (None, lambda form: form.status((0, 10), (0, 20))),
    (None, lambda form: form.steered("hold", 42, 0)),
]


@pytest.mark.parametrize("form", [lines, objects], ids=["lines", "objects"])
@pytest.mark.parametrize(("event", "write"), EVENTS)
def test_what_is_written_is_read_again_in_both_forms(form, event, write):
    found = parse(write(form).rstrip(b"\n"))
    if event is not None and event[0] == "delivery" and found is not None:
        event, found = (*event[:3], event[3].rstrip(b"/")), (*found[:3], found[3].rstrip(b"/"))
    assert found == event


def test_an_object_with_everything_about_a_delivery_is_the_same_event():
    about = About(42, b"local", b"s@x", b"r@y", 0.5, 1.5)
    assert parse(objects.delivered(7, b"K", b"ok\n", about).rstrip(b"\n")) == ("delivery", 7, b"success", b"ok")


@given(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"@4", b"{", b"info msg ", b"delivery ", b"starting delivery ", b"bounce ", b"2026-11-", b"Nov 21 "]
    ),
)
def test_no_line_is_too_strange(data, begin):
    _when, rest = split_time(begin + data)
    parse(rest)
    parse(begin + data)
