"""hold, release, flush, remove and bounce, on a scheduler whose clock and deliverers the test moves."""

from __future__ import annotations

import os
import runpy
import signal
from pathlib import Path

import pytest

from pluq.queue.reader import HELD_TIME, identity
from pluq.send.steering import Steering
from pluq.wire.steer import Order, Outcome

JOE = b"joe@here.example"
ANN = b"ann@here.example"
FAR = b"far@there.example"
CRASH = runpy.run_path(str(Path(__file__).with_name("test_send_crash.py")))


class Admin:
    """Gives orders to a rig's scheduler, as the control socket does: in a turn, answered when it has settled."""

    def __init__(self, rig):
        self.rig = rig
        self.steering = Steering(rig.scheduler)

    def __call__(self, verb, *numbers, text=b"", identities=None):
        found = identities or {number: identity(self.rig.layout, number) for number in numbers}
        outcomes = self.steering.obey(Order(verb, text, found), 0)
        self.rig.scheduler.settle()
        return outcomes[numbers[0]] if len(numbers) == 1 else outcomes


@pytest.fixture
def order(rig):
    return Admin(rig)


def deferred(rig, *recipients, **options):
    """Queue a message that is deferred for all recipients; returns its number."""
    rig.local.answer = rig.remote.answer = lambda recipient: b"Zbusy\n"
    number = rig.send(*recipients, **options)
    rig.turns()
    assert rig.files(number) >= {"mess", "info"}
    return number


def accept_all(rig):
    rig.local.answer = rig.remote.answer = lambda recipient: b"Kok"


def times(rig, number):
    paths = (rig.layout.local(number), rig.layout.remote(number))
    return [int(os.stat(path).st_mtime) for path in paths if os.path.exists(path)]


# hold and release


def test_a_held_message_is_not_tried_until_it_is_released(rig, order):
    number = deferred(rig, JOE, FAR)
    assert order("hold", number) is Outcome.DONE
    accept_all(rig)
    rig.sleep(700_000)
    assert rig.files(number) == {"mess", "info", "local", "remote"}
    assert order("release", number) is Outcome.DONE
    rig.turns()
    assert rig.queue_is_empty()


def test_a_hold_lies_on_disk_where_a_stock_scheduler_sees_a_next_try_in_2038(rig, order):
    number = deferred(rig, JOE, FAR)
    order("hold", number)
    assert times(rig, number) == [HELD_TIME, HELD_TIME]


def test_a_hold_outlives_the_scheduler(rig, order):
    number = deferred(rig, JOE)
    order("hold", number)
    rig.restart()
    accept_all(rig)
    rig.sleep(700_000)
    assert rig.files(number) == {"mess", "info", "local"}
    assert Admin(rig)("release", number) is Outcome.DONE
    rig.turns()
    assert rig.queue_is_empty()


def test_alarm_and_flush_leave_what_is_on_hold(rig, order):
    number = deferred(rig, JOE)
    order("hold", number)
    accept_all(rig)
    rig.scheduler.all_now()
    rig.turns()
    assert order("flush", number) is Outcome.NOTHING
    rig.turns()
    assert rig.files(number) == {"mess", "info", "local"}


def test_stopping_leaves_a_hold_on_disk(rig, order):
    number = deferred(rig, JOE)
    order("hold", number)
    rig.scheduler.stop()
    rig.scheduler.leave()
    assert times(rig, number) == [HELD_TIME]


def test_what_is_in_flight_is_held_when_it_has_reported(rig, order):
    number = deferred(rig, JOE, ANN)
    rig.local.answer = lambda recipient: None
    order("flush", number)
    rig.turns()
    assert order("hold", number) is Outcome.LATER
    first, second = rig.local.open
    rig.local.report(first, b"Kok")
    rig.local.report(second, b"Zbusy\n")
    rig.turns()
    assert rig.read("local", number) == b"D" + JOE + b"\0T" + ANN + b"\0"
    assert times(rig, number) == [HELD_TIME]


def test_a_message_that_is_delivered_in_spite_of_a_hold_is_gone(rig, order):
    rig.local.answer = lambda recipient: None
    number = rig.send(JOE)
    rig.turns()
    assert order("hold", number) is Outcome.LATER
    rig.local.report(rig.local.open[0], b"Kok")
    rig.turns()
    assert rig.queue_is_empty()
    accept_all(rig)
    again = rig.send(JOE)
    rig.turns()
    assert rig.queue_is_empty(), f"{again} was held for the sake of its predecessor"


def test_a_new_message_that_waits_for_room_is_held(rig, order):
    rig.scheduler.common.channels[0].wanted = 0
    number = rig.send(JOE, ANN)
    rig.turns()
    assert order("hold", number) is Outcome.LATER
    rig.turns()
    assert times(rig, number) == [HELD_TIME]
    rig.scheduler.common.channels[0].wanted = 10
    rig.sleep(5000)
    assert rig.local.orders == []


def test_a_hold_of_what_is_in_flight_can_be_taken_back(rig, order):
    rig.local.answer = lambda recipient: None
    number = rig.send(JOE)
    rig.turns()
    order("hold", number)
    assert order("release", number) is Outcome.DONE
    rig.local.report(rig.local.open[0], b"Zbusy\n")
    rig.turns()
    assert times(rig, number) != [HELD_TIME]


# flush


def test_flush_tries_only_what_was_named(rig, order):
    one, other = deferred(rig, JOE), deferred(rig, ANN)
    rig.local.orders.clear()
    accept_all(rig)
    assert order("flush", one) is Outcome.DONE
    rig.turns()
    assert rig.local.recipients == [JOE]
    assert rig.files(one) == set()
    assert rig.files(other) == {"mess", "info", "local"}


def test_what_is_flushed_is_due_on_disk_as_well(rig, order):
    number = deferred(rig, JOE)
    rig.scheduler.common.channels[0].wanted = 0
    order("flush", number)
    assert times(rig, number) == [int(rig.clock.now)]


# remove


def test_remove_leaves_nothing_and_tells_nobody(rig, order):
    rig.remote.answer = lambda recipient: b"Dno\n"
    rig.local.answer = lambda recipient: b"Zbusy\n"
    number = rig.send(JOE, FAR)
    rig.turns()
    assert "bounce" in rig.files(number)
    assert order("remove", number) is Outcome.DONE
    rig.turns()
    assert rig.queue_is_empty()
    assert rig.injector.bounces == []
    assert rig.events[-2:] == [f"end msg {number}", f"remove msg {number} uid 0"]


def test_a_removed_message_is_never_tried_again(rig, order):
    number = deferred(rig, JOE)
    rig.local.orders.clear()
    order("remove", number)
    rig.sleep(700_000)
    assert rig.local.orders == []


def test_a_held_message_can_be_removed(rig, order):
    number = deferred(rig, JOE)
    order("hold", number)
    assert order("remove", number) is Outcome.DONE
    assert rig.queue_is_empty()


def test_remove_waits_for_what_is_in_flight_and_starts_nothing_more(rig, order):
    rig.scheduler.common.channels[0].wanted = 1
    number = deferred(rig, JOE, ANN, FAR)
    rig.local.answer = lambda recipient: None
    order("flush", number)
    rig.turns()
    assert order("remove", number) is Outcome.LATER
    rig.local.report(rig.local.open[0], b"Zbusy\n")
    rig.turns()
    assert rig.queue_is_empty()


def test_a_new_message_is_removed_when_what_is_in_flight_has_reported(rig, order):
    rig.scheduler.common.channels[0].wanted = 1
    rig.local.answer = lambda recipient: None
    number = rig.send(JOE, ANN)
    rig.turns()
    assert order("remove", number) is Outcome.LATER
    rig.local.report(rig.local.open[0], b"Zbusy\n")
    rig.turns()
    assert rig.queue_is_empty()
    assert rig.local.recipients == [JOE]


def test_an_order_for_a_message_that_left_does_not_meet_the_next_one_with_its_number(rig, order):
    number = deferred(rig, JOE)
    assert order("remove", number, identities={number: identity(rig.layout, number) - 1}) is Outcome.GONE
    assert order("remove", 999_999_999, identities={999_999_999: 1}) is Outcome.GONE
    assert rig.files(number) == {"mess", "info", "local"}


# bounce


def test_one_bounce_tells_of_all_recipients_that_are_not_done(rig, order):
    rig.local.answer = lambda recipient: b"Kok" if recipient == JOE else b"Zbusy\n"
    rig.remote.answer = lambda recipient: b"Zbusy\n"
    number = rig.send(JOE, ANN, FAR)
    rig.turns()
    assert order("bounce", number, text=b"The host is gone.") is Outcome.DONE
    rig.turns()
    ((_sender, recipient, text),) = rig.injector.bounces
    assert recipient == b"sender@there.example"
    assert text.count(b"The postmaster of this system has given up") == 2
    assert (
        b"<ann@here.example>:\nThe postmaster of this system has given up on this message. (#5.0.0)\nThe host is gone."
        in text
    )
    assert b"<far@there.example>:" in text
    assert b"<joe@here.example>:" not in text
    assert rig.queue_is_empty()


def test_what_is_in_flight_bounces_unless_it_is_delivered(rig, order):
    number = deferred(rig, JOE, ANN)
    rig.local.answer = lambda recipient: None
    order("flush", number)
    rig.turns()
    assert order("bounce", number) is Outcome.LATER
    first, second = rig.local.open
    rig.local.report(first, b"Kok")
    rig.local.report(second, b"Zbusy\n")
    rig.turns()
    ((_sender, _recipient, text),) = rig.injector.bounces
    assert b"<joe@here.example>:" not in text
    assert b"<ann@here.example>:" in text
    assert rig.queue_is_empty()


def test_a_new_message_can_be_bounced(rig, order):
    rig.scheduler.common.channels[0].wanted = 0
    number = rig.send(JOE, ANN)
    rig.turns()
    order("bounce", number)
    rig.turns()
    assert len(rig.injector.bounces) == 1
    assert rig.queue_is_empty()


# crashes


@pytest.mark.parametrize("verb", ["hold", "release", "remove", "bounce"])
def test_a_crash_at_any_point_of_an_order_leaves_a_whole_message_or_none(make_rig, verb):
    """Killed before each change to a file, the order is obeyed or not: nobody is forgotten, and no half is delivered."""
    rig = make_rig()
    for countdown in range(1, CRASH["STEPS_MAX"]):
        rig.injector.bounces.clear()
        number = deferred(rig, JOE, FAR)
        if verb == "release":
            Admin(rig)("hold", number)
        kill = CRASH["Kill"](countdown)

        def act(number=number, kill=kill):
            admin = Admin(rig)
            kill.install()
            admin(verb, number)

        ended = CRASH["in_child"](act)
        assert ended in (0, -signal.SIGKILL)
        rig.restart()
        accept_all(rig)
        if "info" in rig.files(number):
            Admin(rig)("release", number)
        rig.sleep(5000)

        delivered = {*rig.local.recipients, *rig.remote.recipients}
        bounced = {one for one in (JOE, FAR) if any(b"<%b>:" % one in text for *_, text in rig.injector.bounces)}
        allowed = [{JOE, FAR}] if verb != "remove" else [{JOE, FAR}, set()]
        assert delivered | bounced in allowed, f"killed before change {countdown}"
        assert not (bounced and verb != "bounce")
        assert "info" not in rig.files(number)
        for path in (rig.layout.local(number), rig.layout.remote(number), rig.layout.mess(number)):
            if os.path.lexists(path):  # a removal was cut short: nobody's any more, the cleaner takes them
                os.unlink(path)
        if ended == 0:
            return
    pytest.fail("the order never ended")


def test_what_a_removal_that_was_cut_short_left_goes_with_the_stale_files(rig):
    number = deferred(rig, JOE)
    os.unlink(rig.layout.info(number))
    long_ago = rig.clock.now - 200_000
    os.utime(rig.layout.mess(number), (long_ago, long_ago))
    rig.restart()
    rig.turns()
    assert rig.files(number) == set()
