"""The fast path: tried from todo/, written down only when something has to wait."""

from __future__ import annotations

import os

import pytest

from pluq.queue import cleaner
from pluq.send import fresh

JOE = b"joe@here.example"
ANN = b"ann@here.example"
FAR = b"far@there.example"


def fail(descriptor):
    """A disk that takes nothing."""
    raise OSError(5, "I/O error")


def send_without_disk(rig, monkeypatch):
    """Send a message that is put off while nothing can be synced; return its number."""
    rig.local.answer = lambda recipient: b"Zlater"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        number = rig.send(JOE)
        rig.turns()
    return number


def test_a_message_that_is_delivered_at_once_leaves_no_file(rig):
    made = []
    number = rig.send(JOE)
    rig.local.answer = lambda recipient: made.append(rig.files(number)) or b"Kdid 1+0+0\n"
    rig.turns()

    assert made == [{"mess", "intd", "todo"}]
    assert rig.queue_is_empty()
    assert rig.lines == [
        "status: local 0/10 remote 0/0",
        "status: local 0/10 remote 0/20",
        f"new msg {number}",
        f"info msg {number}: bytes 20 from <sender@there.example> qp 77 uid 1000",
        f"starting delivery 1: msg {number} to local joe@here.example",
        "status: local 1/10 remote 0/20",
        "delivery 1: success: did_1+0+0/",
        "status: local 0/10 remote 0/20",
        f"end msg {number}",
    ]


def test_a_message_without_recipients_ends(rig):
    number = rig.send()
    rig.turns()

    assert rig.queue_is_empty()
    assert rig.events[-1] == f"end msg {number}"


def test_orders_carry_the_split_name_and_the_verp_sender(rig):
    number = rig.send(JOE, FAR, sender=b"list-@lists.example-@[]")
    rig.turns()

    order = rig.local.orders[0]
    assert order.message == b"%d/%d" % (number % 23, number)
    assert order.sender == b"list-joe=here.example@lists.example"
    assert rig.remote.orders[0].sender == b"list-far=there.example@lists.example"


def test_a_deferred_recipient_is_written_down_and_tried_again(rig):
    rig.remote.answer = lambda recipient: b"Zcome back later\n"
    number = rig.send(JOE, FAR)
    rig.turns()

    assert rig.files(number) == {"mess", "info", "local", "remote"} - {"local"}
    assert rig.read("info", number) == b"Fsender@there.example\0"
    assert rig.read("remote", number) == b"Tfar@there.example\0"
    assert int(os.stat(rig.layout.info(number)).st_mtime) == rig.clock.now
    assert int(os.stat(rig.layout.remote(number)).st_mtime) == rig.clock.now + 400

    rig.remote.answer = lambda recipient: b"Kok"
    rig.sleep(399)
    assert rig.remote.recipients == [FAR]
    rig.sleep(1)
    assert rig.remote.recipients == [FAR, FAR]
    assert rig.local.recipients == [JOE]
    assert rig.queue_is_empty()
    assert rig.events[-1] == f"end msg {number}"


def test_done_recipients_are_marked_when_a_message_is_written_down(rig):
    answers = {JOE: b"Kok", ANN: b"Zlater", b"bob@here.example": b"Kok"}
    rig.local.answer = answers.get
    number = rig.send(JOE, ANN, b"bob@here.example")
    rig.turns()

    assert rig.read("local", number) == b"Djoe@here.example\0Tann@here.example\0Dbob@here.example\0"

    answers[ANN] = b"Kok"
    rig.sleep(100)
    assert rig.local.recipients == [JOE, ANN, b"bob@here.example", ANN]
    assert rig.queue_is_empty()


def test_a_failed_recipient_bounces_after_the_message_is_preprocessed(rig):
    states = []
    rig.remover.held = []
    rig.local.answer = lambda recipient: b"Dno such user\n" if recipient == ANN else b"Kok"
    number = rig.send(JOE, ANN)
    rig.turns()
    states.append(rig.files(number))
    assert rig.injector.bounces == []

    held, rig.remover.held = rig.remover.held, None
    for waiting, answered in held:
        rig.remover.remove_todo(waiting, answered)
    rig.turns()

    assert states == [{"mess", "intd", "todo", "info", "local"}]
    assert [bounce[:2] for bounce in rig.injector.bounces] == [(b"", b"sender@there.example")]
    text = rig.injector.bounces[0][2]
    assert text.count(b"<ann@here.example>:\nno such user\n\n--- Below this line") == 1
    assert text.endswith(b"Return-Path: <sender@there.example>\nSubject: test\n\nbody\n")
    assert rig.queue_is_empty()
    assert rig.events[-2:] == [f"bounce msg {number} qp 101", f"end msg {number}"]


def test_failed_and_deferred_recipients_of_one_message(rig):
    answers = {JOE: b"Dnever\n", ANN: b"Zlater\n"}
    rig.local.answer = answers.get
    number = rig.send(JOE, ANN)
    rig.turns()

    assert rig.read("local", number) == b"Djoe@here.example\0Tann@here.example\0"
    assert rig.read("bounce", number) == b"<joe@here.example>:\nnever\n\n"
    assert rig.injector.bounces == []

    answers[ANN] = b"Kok"
    rig.sleep(100)
    assert len(rig.injector.bounces) == 1
    assert rig.queue_is_empty()


def test_many_recipients_are_preprocessed_first(rig):
    recipients = [b"r%d@here.example" % index for index in range(fresh.RECIPIENTS_MAX + 1)]
    rig.local.answer = lambda recipient: None
    number = rig.send(*recipients)
    rig.turns()
    assert rig.files(number) == {"mess", "info", "local"}

    for order in rig.local.open[:3]:
        rig.local.report(order, b"Kok")
    rig.turns()
    assert rig.read("local", number).count(b"Dr") == 3

    rig.local.answer = lambda recipient: b"Kok"
    rig.turns()
    assert sorted(rig.local.recipients) == sorted(recipients)
    assert rig.queue_is_empty()


def test_a_full_memory_sends_new_messages_to_disk(rig, monkeypatch):
    monkeypatch.setattr(fresh, "WAITING_MAX", 5)
    rig.local.answer = lambda recipient: None
    numbers = [rig.send(JOE) for _ in range(30)]
    rig.turns()

    states = [rig.files(number) for number in numbers]
    assert states.count({"mess", "info", "local"}) == 25
    assert rig.local.recipients == [JOE] * 10

    rig.local.answer = lambda recipient: b"Kok"
    rig.turns(20)
    assert len(rig.local.recipients) == 30
    assert rig.queue_is_empty()


def test_waiting_messages_do_not_keep_new_ones_out(rig):
    rig.local.answer = lambda recipient: b"Zlater"
    for _ in range(50):
        rig.send(b"old@here.example")
    rig.turns(12)
    rig.clock.now += 5000
    rig.local.answer = lambda recipient: b"Kok"
    rig.local.orders.clear()
    for _ in range(10):
        rig.send(JOE)
    rig.turns(1)

    assert rig.local.recipients.count(JOE) == 5
    assert rig.local.recipients.count(b"old@here.example") == 5


@pytest.mark.parametrize("outcome", [b"X what", b"", b"\n"])
def test_a_mangled_report_defers(rig, outcome):
    rig.local.answer = lambda recipient: outcome
    number = rig.send(JOE)
    rig.turns()

    assert "delivery 1: report mangled, will defer" in rig.lines
    assert rig.read("local", number) == b"Tjoe@here.example\0"


def test_reports_about_nothing_are_logged(rig):
    rig.local.sock.send(b"\x07\x00Kok\0")
    rig.turns()

    assert rig.events[-1] == "warning: internal error: delivery report out of range"


def test_a_message_in_todo_that_nobody_told_of_is_found(rig):
    rig.queue(JOE)
    rig.scheduler.scan.want()
    rig.turns()

    assert rig.local.recipients == [JOE]
    assert rig.queue_is_empty()


def test_the_trigger_wakes(rig):
    rig.turns()
    rig.queue(JOE)
    assert rig.local.recipients == []
    for _ in range(2):
        descriptor = os.open(rig.layout.trigger, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, b"\0")
        os.close(descriptor)
    rig.turns()

    assert rig.local.recipients == [JOE]


def test_todo_is_looked_through_every_25_minutes(rig):
    rig.turns()
    rig.queue(JOE)
    rig.sleep(1499)
    assert rig.local.recipients == []
    rig.sleep(1)
    assert rig.local.recipients == [JOE]


@pytest.fixture
def slow_rig(rig):
    """The daemon takes its time to do what it is asked for."""
    rig.remover.held = []
    rig.told = []
    rig.remover.remove_message = rig.told.append
    return rig


def carry_out(rig):
    for number in rig.told:
        cleaner.remove_todo(rig.layout, number)
        cleaner.remove_message(rig.layout, number)
    rig.told.clear()
    questions, rig.remover.questions = rig.remover.questions, []
    for answered in questions:
        answered()


def test_a_look_into_todo_does_not_deliver_what_is_about_to_go(slow_rig):
    rig = slow_rig
    number = rig.send(JOE)
    rig.turns()
    rig.scheduler.scan.want()
    rig.turns()
    rig.sleep(1000)
    assert rig.local.recipients == [JOE]
    assert rig.told == [number]

    carry_out(rig)
    rig.turns()
    assert rig.local.recipients == [JOE]
    assert rig.queue_is_empty()


def test_a_number_is_used_again_at_once(slow_rig):
    rig = slow_rig
    number = rig.send(JOE)
    rig.turns()
    rig.told.clear()
    rig.notice(number)
    rig.turns()

    assert rig.local.recipients == [JOE, JOE]
    assert rig.told == [number]


def test_a_late_notice_of_what_was_found_in_todo_delivers_nothing_twice(slow_rig):
    rig = slow_rig
    number = rig.queue(JOE)
    rig.scheduler.scan.want()
    rig.turns()
    rig.notice(number)
    rig.turns()
    assert rig.local.recipients == [JOE]
    carry_out(rig)
    rig.turns()
    assert rig.local.recipients == [JOE]


def test_a_message_that_was_taken_for_an_old_one_is_found_after_the_answer(slow_rig):
    rig = slow_rig
    number = rig.queue(JOE)
    rig.scheduler.scan.want()
    rig.turns()
    rig.notice(number)  # a new one with the same number, for all that we know
    rig.turns()
    rig.told.clear()  # so its files stay
    carry_out(rig)
    rig.turns()

    assert rig.local.recipients == [JOE, JOE]


def test_a_number_is_used_again_after_the_clock_was_set_back(slow_rig):
    rig = slow_rig
    rig.send(ANN)
    rig.turns()
    carry_out(rig)  # the next question may come in a second
    number = rig.queue(JOE)
    rig.scheduler.scan.want()
    rig.turns()
    rig.clock.now -= 30 * 86400
    rig.notice(number)
    rig.told.clear()  # so its files stay
    rig.turns()
    carry_out(rig)
    rig.turns()

    assert rig.local.recipients == [ANN, JOE, JOE]


def test_what_failed_is_tried_again_at_once_when_the_clock_is_set_back(rig, monkeypatch):
    number = send_without_disk(rig, monkeypatch)
    rig.clock.now -= 86400
    rig.turns()

    assert rig.files(number) == {"mess", "info", "local"}


def test_todo_is_looked_through_when_the_clock_is_set_back(rig):
    rig.turns()
    rig.queue(JOE)
    rig.clock.now -= 86400
    rig.turns()

    assert rig.local.recipients == [JOE]


def test_what_a_dead_daemon_did_not_do_is_delivered_again_unless_the_new_one_will_do_it(slow_rig):
    rig = slow_rig
    lost, kept = rig.send(JOE), rig.send(ANN)
    rig.turns()
    rig.scheduler.fresh.reconnected({kept})
    rig.scheduler.scan.want()
    rig.turns()

    assert rig.local.recipients == [JOE, ANN, JOE]
    assert rig.told == [lost, kept, lost]


def test_an_unknown_record_leaves_the_message_alone(rig):
    number = rig.queue(JOE)
    with open(rig.layout.todo(number), "r+b") as file:
        file.write(b"X")
    rig.notice(number)
    rig.turns()

    assert f"warning: unknown record type in todo/{number}" in rig.lines
    assert rig.files(number) == {"mess", "intd", "todo"}


def test_term_leaves_untried_messages_in_todo_and_writes_down_the_others(rig):
    rig.local.answer = lambda recipient: b"Kok" if recipient == JOE else None
    rig.scheduler.common.channels[0].wanted = 2
    first = rig.send(JOE, ANN, b"bob@here.example", b"eve@here.example")
    untried = rig.send(b"later@here.example")
    rig.turns(3)
    assert rig.local.recipients == [JOE, ANN, b"bob@here.example"]
    rig.scheduler.stop()
    assert not rig.scheduler.may_leave
    rig.local.answer = lambda recipient: b"Kok"
    rig.turns()

    assert rig.scheduler.may_leave
    assert rig.files(untried) == {"mess", "intd", "todo"}
    assert rig.read("local", first) == (b"Djoe@here.example\0Dann@here.example\0Dbob@here.example\0Teve@here.example\0")
    assert rig.lines[-1].endswith("exitasap")


def test_a_lost_deliverer_defers_what_it_had(rig):
    rig.local.answer = lambda recipient: None
    number = rig.send(JOE, FAR)
    rig.turns()
    rig.local.sock.close()
    rig.scheduler.turn(0)
    rig.scheduler.turn(0)

    assert "delivery 1: deferral: lost/" in rig.lines
    assert rig.read("local", number) == b"Tjoe@here.example\0"
    assert (
        rig.files(number) == {"mess", "info", "local", "remote"} - {"remote"}
        or rig.read("remote", number) == b"Dfar@there.example\0"
    )


def test_a_disk_that_fails_keeps_the_message_and_tries_again(rig, monkeypatch):
    number = send_without_disk(rig, monkeypatch)
    assert f"warning: trouble fsyncing info/{number % 23}/{number}" in rig.lines
    assert "todo" in rig.files(number)

    rig.sleep(123)
    assert rig.files(number) == {"mess", "info", "local"}
    assert rig.local.recipients == [JOE]


def test_files_that_cannot_even_be_begun_count_as_not_written(rig, monkeypatch):
    rig.local.answer = lambda recipient: b"Zlater"
    monkeypatch.setattr("pluq.send.syncing.start_writing", set)
    number = rig.send(JOE)
    rig.turns()
    assert f"warning: trouble fsyncing info/{number % 23}/{number}" in rig.lines
    assert "todo" in rig.files(number)


def test_files_that_a_dead_scheduler_left_beside_todo_do_not_outlive_the_message(rig):
    number = rig.queue(JOE)
    for path, text in (
        (rig.layout.info(number), b"Fsender@there.example\0"),
        (rig.layout.local(number), b"Tjoe@old\0"),
    ):
        with open(path, "wb") as file:
            file.write(text)
    rig.restart()
    rig.scheduler.scan.want()
    rig.turns()

    assert rig.local.recipients == [JOE], "what was written before the crash does not count"
    assert rig.queue_is_empty()


def test_alrm_finds_what_nobody_told_of(rig):
    rig.turns()
    rig.queue(JOE)
    rig.turns()
    assert rig.local.recipients == []

    rig.scheduler.all_now()
    rig.turns()
    assert rig.local.recipients == [JOE]
    assert rig.queue_is_empty()


MANY = [b"r%d@here.example" % index for index in range(fresh.RECIPIENTS_MAX + 1)]


def failing(_descriptor, *_arguments):
    raise OSError(5, "I/O error")


def test_a_sync_that_fails_is_heard_by_everybody_whose_files_it_was_for(rig, monkeypatch):
    rig.local.answer = lambda recipient: None
    rig.send(*MANY)
    rig.turns()
    rig.local.report(rig.local.open[0], b"Dno such user\n")
    number = rig.queue(*MANY)
    monkeypatch.setattr(os, "fsync", failing)
    monkeypatch.setattr("pluq.send.syncing.have_syncfs", lambda: False)
    rig.notice(number)  # in the turn in which a failure is written down
    rig.scheduler.turn(0)

    assert "todo" in rig.files(number)


def test_a_time_that_cannot_be_set_leaves_the_message_where_it_is(rig, monkeypatch):
    real = os.utime
    monkeypatch.setattr(os, "utime", failing)
    rig.local.answer = lambda recipient: b"Zlater"
    numbers = [rig.send(JOE), rig.send(*MANY)]
    rig.turns()
    assert all("todo" in rig.files(number) for number in numbers)

    monkeypatch.setattr(os, "utime", real)
    rig.local.answer = lambda recipient: b"Kok"
    rig.sleep(2000)
    assert rig.queue_is_empty()


@pytest.mark.parametrize("recipients", [[JOE], MANY])
def test_a_message_whose_todo_file_is_gone_goes_on_whatever_the_daemon_says(rig, recipients):
    rig.remover.held = []
    rig.local.answer = lambda recipient: b"Zlater"
    number = rig.send(*recipients)
    rig.turns()
    ((_number, answered),) = rig.remover.held
    cleaner.remove_todo(rig.layout, number)
    answered(number, False)  # it could not sync the folder
    rig.remover.held = None
    rig.local.answer = lambda recipient: b"Kok"
    rig.sleep(1000)

    assert set(rig.local.recipients) == set(recipients)
    assert rig.queue_is_empty()


def test_files_of_an_attempt_that_failed_do_not_outlive_the_message(rig, monkeypatch):
    monkeypatch.setattr(fresh, "WAITING_MAX", 0)
    number = rig.queue(JOE)
    monkeypatch.setattr(os, "fsync", failing)
    rig.scheduler.scan.want()
    rig.turns()
    assert rig.files(number) == {"mess", "intd", "todo", "info", "local"}

    monkeypatch.undo()
    rig.notice(number)  # it was found before the daemon told of it
    rig.turns()
    assert rig.local.recipients == [JOE]
    assert rig.queue_is_empty()
