"""The retry schedule: pure arithmetic."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.send.schedule import Waiting, is_last_try, next_try

LOCAL, REMOTE = 0, 1


@pytest.mark.parametrize(
    ("channel", "age", "retry_age"),
    [
        (LOCAL, 0, 100),
        (LOCAL, 4, 144),
        (LOCAL, 10050, 12100),
        (LOCAL, 100100, 106276),
        (REMOTE, 0, 400),
        (REMOTE, 4, 484),
        (REMOTE, 10050, 14400),
        (REMOTE, -50, 400),
    ],
)
def test_tries_are_where_qmail_makes_them(channel, age, retry_age):
    assert next_try(1_700_000_000, 1_700_000_000 + age, channel) == 1_700_000_000 + retry_age


def test_a_week_of_remote_tries():
    ages = [0]
    while ages[-1] <= 604800:
        ages.append(next_try(0, ages[-1], REMOTE))

    assert ages == [(20 * step) ** 2 for step in range(40)]


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.sampled_from([LOCAL, REMOTE]))
def test_the_next_try_lies_ahead(birth, now, channel):
    assert next_try(birth, now, channel) > now or now < birth


def test_the_try_after_the_lifetime_is_the_last():
    assert not is_last_try(1000, 1000 + 604800, 604800)
    assert is_last_try(1000, 1000 + 604801, 604800)
    assert not is_last_try(1000, 1000, 0)


@given(st.lists(st.tuples(st.integers(-100, 2**33), st.integers(0, 2**64 - 1))))
def test_what_waits_comes_out_by_time(entries):
    waiting = Waiting()
    half = len(entries) // 2
    waiting.extend(entries[:half])
    waiting.arrange()
    for when, number in entries[half:]:
        waiting.add(when, number)

    assert sorted(waiting) == sorted(entries)
    assert len(waiting) == len(entries)
    out = []
    while (when := waiting.first()) is not None:
        assert waiting.pop_due(when - 1) is None
        out.append((when, waiting.pop_due(when)))
    assert [when for when, _number in out] == sorted(when for when, _number in entries)
    assert sorted(out) == sorted(entries)


def test_alrm_makes_everything_due():
    waiting = Waiting()
    for number in range(10):
        waiting.add(1000 + number, number)
    waiting.all_at(5)

    assert sorted(waiting.pop_due(5) for _ in range(10)) == list(range(10))
    assert waiting.pop_due(5) is None


def test_a_hundred_thousand_waiting_messages_take_few_megabytes():
    waiting = Waiting()
    waiting.extend((1_700_000_000 + number % 977, 10_000_000 + number) for number in range(100_000))
    waiting.arrange()

    assert sum(sys.getsizeof(entry) for entry in waiting._heap) + sys.getsizeof(waiting._heap) < 8_000_000
