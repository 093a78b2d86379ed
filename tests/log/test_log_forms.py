"""One event, two forms: the lines stay what they are, and the objects say the same."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import log
from pluq.log import objects
from pluq.log.writer import pieces

ABOUT = log.About(42, b"local", b"s@x", b"joe@x", 0.25, 12.5)


@pytest.fixture(autouse=True)
def default_form():
    yield
    log.use("qmail")
    log.listen({})


def test_the_default_is_the_line_and_costs_no_other_function():
    log.use("json")
    log.use("qmail")
    assert log.new_message is log.lines.new_message
    assert log.delivered(7, b"K", b"did 1+0+0\n", ABOUT) == b"delivery 7: success: did_1+0+0/\n"
    assert not log.wants_about


def test_an_object_says_everything_about_a_delivery():
    log.use("json")
    log.be("send")
    told = json.loads(log.delivered(7, b"D", b"no \xff mailbox\n", ABOUT))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", told.pop("time"))
    assert told == {
        "event": "delivery",
        "role": "send",
        "delivery": 7,
        "message": 42,
        "channel": "local",
        "sender": "s@x",
        "recipient": "joe@x",
        "status": "failure",
        "text": "no \\xff mailbox",
        "seconds": 0.25,
        "delay": 12.5,
    }


def test_both_is_the_line_and_then_the_object():
    log.use("both")
    line, record = log.end_message(42).splitlines(keepends=True)
    assert line == b"end msg 42\n"
    assert json.loads(record)["message"] == 42


EVENTS = {
    "status": lambda: log.status((1, 10), (0, 20), True),
    "new": lambda: log.new_message(42),
    "info": lambda: log.info(42, 813, b"s@x", 99, 1000),
    "start": lambda: log.starting(7, 42, b"local", b"joe@x"),
    "delivery": lambda: log.delivered(7, b"Z", b"later", ABOUT),
    "bounce": lambda: log.bounced(42, 100),
    "no_bounce": lambda: log.no_bounce("triple bounce", b"bounce/42"),
    "end": lambda: log.end_message(42),
    "exit": lambda: log.leaving(),
    "warning": lambda: log.warning("trouble"),
    "alert": lambda: log.alert(b"trouble"),
    "remark": lambda: log.remark("smtpd", "hello"),
}


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_an_object_has_the_fields_that_are_documented(name):
    log.use("json")
    told = json.loads(EVENTS[name]())
    assert told["event"] == name
    assert tuple(told) == (*objects.COMMON_FIELDS, *objects.FIELDS[name])


@given(st.binary(max_size=200))
def test_a_stranger_cannot_forge_an_object(text):
    for line in (
        objects.delivered(1, b"D", text, ABOUT),
        objects.starting(1, 2, b"local", text),
        objects.info(1, 2, text, 3, 4),
        objects.warning(text),
    ):
        assert line.count(b"\n") == 1
        assert line.endswith(b"}\n")
        assert line.isascii()
        json.loads(line)


def test_a_listener_hears_the_values_and_the_line_is_the_same():
    heard = []
    log.listen({"new_message": lambda tell: lambda message: heard.append(message) or tell(message)})
    assert log.new_message(42) == b"new msg 42\n"
    assert heard == [42]


def test_a_remark_shows_no_control_character():
    assert log.remark("smtpd", "a\nb\x1b[31m") == b"smtpd: a?b?[31m\n"


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"") + b"\n")), st.integers(1, 60))
def test_a_pipe_gets_whole_lines_that_nobody_can_get_between(lines, most):
    data = b"".join(lines)
    found = [bytes(piece) for piece in pieces(data, most)]
    assert b"".join(found) == data
    assert all(piece.endswith(b"\n") for piece in found)
    assert all(len(piece) <= most or piece.count(b"\n") == 1 for piece in found)


def test_a_file_gets_everything_in_one_write():
    assert [bytes(piece) for piece in pieces(b"a\n" * 5000, None)] == [b"a\n" * 5000]
    assert list(pieces(b"", 10)) == []
