"""What a delivered message begins with, and what a program is told."""

import pytest

from pluq.errors import PermanentFailure
from pluq.local.order import Order, delivered_to, environment, from_line, refuse_functions, return_path

WHEN = 1795195217  # Fri Nov 20 17:20:17 2026


def order(**changes):
    given = {
        "user": b"joe",
        "home": b"/home/joe",
        "local": b"joe-a-b-c-d",
        "dash": b"-",
        "ext": b"a-b-c-d",
        "host": b"w.x.y.z",
        "sender": b"s@src.example",
        "default": b"./Mailbox",
    }
    return Order(**{**given, **changes})


def test_newlines_in_addresses_cannot_begin_a_line():
    assert delivered_to(order(local=b"a\nb", host=b"x\ny")) == b"Delivered-To: a_b@x_y\n"
    assert return_path(b"a\nb@x") == b'Return-Path: <"a\\_b"@x>\n'


@pytest.mark.parametrize(
    ("sender", "line"), [(b"", b"<>"), (b"joe doe@x", b'<"joe doe"@x>'), (b"joe@x", b"<joe@x>"), (b"#@[]", b"<#@[]>")]
)
def test_the_return_path_is_quoted_where_it_must_be(sender, line):
    assert return_path(sender) == b"Return-Path: " + line + b"\n"


@pytest.mark.parametrize(("sender", "word"), [(b"", b"MAILER-DAEMON"), (b"a b\tc\nd@x", b"a-b-c-d@x")])
def test_the_sender_is_one_word_in_a_from_line(sender, word):
    assert from_line(sender, WHEN) == b"From " + word + b" Fri Nov 20 17:20:17 2026\n"


def test_a_program_is_told_the_envelope_and_its_parts():
    values = environment(order(), b"new@x", 2, WHEN)
    assert values[b"RECIPIENT"] == b"joe-a-b-c-d@w.x.y.z"
    assert [values[name] for name in (b"EXT", b"EXT2", b"EXT3", b"EXT4")] == [b"a-b-c-d", b"b-c-d", b"c-d", b"d"]
    assert [values[name] for name in (b"HOST", b"HOST2", b"HOST3", b"HOST4")] == [b"w.x.y.z", b"w.x.y", b"w.x", b"w"]
    assert values[b"DEFAULT"] == b"b-c-d"
    assert values[b"NEWSENDER"] == b"new@x"
    assert values[b"DTLINE"] == b"Delivered-To: joe-a-b-c-d@w.x.y.z\n"
    assert values[b"HOME"] == b"/home/joe"


def test_missing_parts_are_empty_and_a_host_without_dots_is_itself():
    values = environment(order(ext=b"a", host=b"localhost"), b"", None, WHEN)
    assert values[b"EXT2"] == values[b"EXT4"] == b""
    assert values[b"HOST2"] == values[b"HOST4"] == b"localhost"
    assert b"DEFAULT" not in values


@pytest.mark.parametrize("place", ["local", "ext", "host", "sender"])
def test_a_value_that_an_old_shell_would_run_is_refused(place):
    with pytest.raises(PermanentFailure):
        refuse_functions(environment(order(**{place: b"() { :;}; touch /tmp/x"}), b"s@x", None, WHEN))
    refuse_functions(environment(order(**{place: b"x() { :;}"}), b"s@x", None, WHEN))
