"""Messages in S5: the schedule, the marks, bounces, the end."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from pluq.send.settings import read_settings

JOE = b"joe@here.example"
ANN = b"ann@here.example"
FAR = b"far@there.example"


def preprocessed(rig, number=23, info=b"Fsender@there.example\0", age=0, due=0, **recipients):
    """Make a message in S5 by hand: `local` and `remote` are the bytes of its files."""
    files = {rig.layout.mess(number): b"Subject: old\n\nold\n", rig.layout.info(number): info}
    files |= {getattr(rig.layout, kind)(number): data for kind, data in recipients.items()}
    for path, data in files.items():
        with open(path, "wb") as file:
            file.write(data)
        when = rig.clock.now - age if path == rig.layout.info(number) else rig.clock.now + due
        os.utime(path, (when, when))
    return number


def test_classic_messages_are_preprocessed_before_they_are_tried(classic_rig):
    rig = classic_rig
    states = []
    number = rig.queue(JOE, FAR, b"u@virt.example")
    rig.local.answer = lambda recipient: states.append(rig.files(number)) or b"Kok"
    rig.scheduler.scan.want()
    rig.turns()

    assert states[0] == {"mess", "info", "local", "remote"}
    assert rig.local.recipients == [JOE, b"joe-virt-u@virt.example"]
    assert rig.remote.recipients == [FAR]
    assert rig.queue_is_empty()
    assert rig.events[0] == f"new msg {number}"
    assert rig.events[-1] == f"end msg {number}"


def test_a_crash_in_the_middle_of_preprocessing_is_repaired(classic_rig):
    rig = classic_rig
    number = rig.queue(JOE)
    for kind in ("info", "remote"):
        with open(getattr(rig.layout, kind)(number), "wb") as file:
            file.write(b"rubbish")
    rig.restart()
    rig.turns()

    assert (rig.local.recipients, rig.remote.recipients) == ([JOE], [])
    assert rig.queue_is_empty()


def test_a_list_of_ten_thousand_is_streamed(classic_rig):
    rig = classic_rig
    recipients = [b"%d@here.example" % index for index in range(10_000)]
    rig.queue(*recipients)
    rig.scheduler.scan.want()
    rig.scheduler.common.channels[0].wanted = 500
    rig.turns(60)

    assert sorted(rig.local.recipients) == sorted(recipients)
    assert rig.queue_is_empty()


def test_a_left_over_queue_is_taken_up(rig):
    number = preprocessed(
        rig, local=b"Dgone@here.example\0Tjoe@here.example\0", remote=b"Tfar@there.example\0", due=-60
    )
    preprocessed(rig, 46, local=b"Tlater@here.example\0", due=500)
    preprocessed(rig, 69)
    rig.restart()
    rig.turns()

    assert rig.local.recipients == [JOE]
    assert rig.remote.recipients == [FAR]
    assert [line for line in rig.events if line.startswith("end")] == ["end msg 69", f"end msg {number}"]
    rig.sleep(500)
    assert rig.local.recipients == [JOE, b"later@here.example"]
    assert rig.queue_is_empty()


def test_a_dead_next_hop_for_a_week(rig):
    """Tries at 0, 400, 1600, 3600... seconds; after a week the last one, and exactly one bounce for each recipient."""
    tries = {}
    recipients = (FAR, b"two@there.example")

    def answer(recipient):
        tries.setdefault(recipient, []).append(rig.clock.now - birth)
        return b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"

    birth = rig.clock.now
    rig.remote.answer = answer
    number = rig.send(*recipients)
    rig.turns()
    while not rig.queue_is_empty():
        rig.sleep_until_due()

    assert tries == {recipient: [(20.0 * step) ** 2 for step in range(40)] for recipient in recipients}
    assert len(rig.injector.bounces) == 1
    sender, recipient, text = rig.injector.bounces[0]
    assert (sender, recipient) == (b"", b"sender@there.example")
    for address in recipients:
        assert (
            text.count(
                b"<%b>:\nSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
                b"I'm not going to try again; this message has been in the queue too long.\n\n" % address
            )
            == 1
        )
    assert rig.events[-1] == f"end msg {number}"


@pytest.mark.parametrize("info", [b"", b"sender@there.example\0", b"Fno end"])
def test_a_sender_that_cannot_be_read_is_named_and_looked_for_later(rig, info):
    preprocessed(rig, info=info, local=b"Tjoe@here.example\0", due=-60)
    rig.restart()
    rig.turns()

    assert rig.events[-1] == "warning: trouble opening info/0/23; will try again later"
    assert rig.files(23) == {"mess", "info", "local"}


def test_a_restart_keeps_the_schedule(rig):
    times = []
    birth = rig.clock.now
    rig.remote.answer = lambda recipient: times.append(rig.clock.now - birth) or b"Zlater"
    rig.send(FAR)
    rig.turns()
    rig.sleep(1600)
    rig.restart()  # killed: nothing could be saved
    rig.remote.answer = lambda recipient: times.append(rig.clock.now - birth) or b"Zlater"
    rig.sleep(8000)

    assert times == [0, 400, 1600, 3600, 6400]


def test_a_stop_saves_the_schedule(rig):
    number = preprocessed(rig, remote=b"Tfar@there.example\0", due=5000)
    rig.restart()
    rig.scheduler.common.leaving = True
    rig.scheduler.jobs.all_now()
    rig.scheduler.leave()

    assert os.stat(rig.layout.remote(number)).st_mtime == rig.clock.now
    assert rig.lines[-1] == "status: exiting"


def test_alrm_tries_everything_now(rig):
    rig.remote.answer = lambda recipient: b"Zlater"
    numbers = [rig.send(FAR) for _ in range(5)]
    rig.turns()
    rig.clock.now += 10
    rig.remote.answer = lambda recipient: b"Kok"
    rig.scheduler.jobs.all_now()
    rig.turns()

    assert len(rig.remote.orders) == 10
    assert len(numbers) == 5
    assert rig.queue_is_empty()


def test_the_last_try_may_still_succeed(rig):
    preprocessed(rig, local=b"Tjoe@here.example\0", age=700_000)
    rig.restart()
    rig.turns()

    assert rig.injector.bounces == []
    assert rig.queue_is_empty()


def test_bounce_double_bounce_and_the_end(rig):
    rig.local.answer = lambda recipient: b"Dno\n"
    rig.send(JOE, sender=b"")
    rig.send(JOE, sender=b"#@[]")
    rig.send(JOE, sender=b"list-@lists.example-@[]")
    rig.turns()

    assert sorted(bounce[:2] for bounce in rig.injector.bounces) == [
        (b"", b"list-@lists.example"),
        (b"#@[]", b"postmaster@here.example"),
    ]
    assert sum(line.startswith("triple bounce: discarding bounce/") for line in rig.lines) == 1
    assert rig.queue_is_empty()


def test_a_bounce_shows_the_address_that_was_sent_to(rig):
    rig.local.answer = lambda recipient: b"Dno\n"
    rig.send(b"u@virt.example")
    rig.turns()

    assert b"<u@virt.example>:\nno\n" in rig.injector.bounces[0][2]


def test_when_the_daemon_is_back_a_refused_bounce_need_not_wait(rig):
    rig.local.answer = lambda recipient: b"Dno\n"
    rig.injector.refusing = True
    rig.send(b"joe@here.example")
    rig.turns()
    assert rig.injector.bounces == []

    rig.injector.refusing = False
    rig.scheduler.retry_failures()
    rig.turns()
    assert len(rig.injector.bounces) == 1


def test_a_bounce_that_is_refused_is_sent_later(rig):
    rig.injector.refusing = True
    rig.local.answer = lambda recipient: b"Dno\n"
    number = rig.send(JOE)
    rig.turns()
    assert rig.files(number) == {"mess", "info", "bounce"}
    assert rig.events[-1] == "warning: trouble injecting bounce message, will try later"

    rig.injector.refusing = False
    rig.sleep(123)
    assert len(rig.injector.bounces) == 1
    assert rig.queue_is_empty()


def test_notes_that_cannot_be_written_wait_and_nothing_is_lost(rig, monkeypatch):
    rig.local.answer = lambda recipient: b"Dno\n"
    os.rmdir(f"{rig.layout.path}/bounce")
    number = rig.send(JOE)
    rig.turns()
    assert "alert: unable to append to bounce message; HELP! sleeping..." in rig.lines
    assert rig.read("local", number) == b"Tjoe@here.example\0"

    os.mkdir(f"{rig.layout.path}/bounce")
    rig.sleep(10)
    assert len(rig.injector.bounces) == 1
    assert rig.queue_is_empty()


def test_a_failure_note_is_synced_before_its_recipient_is_marked(rig, monkeypatch):
    number = preprocessed(rig, local=b"Tjoe@here.example\0Tann@here.example\0")
    steps = []
    fsync, pwrite = os.fsync, os.pwrite
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "pwrite", lambda *arguments: (steps.append("mark"), pwrite(*arguments)))
    rig.restart()
    rig.local.answer = lambda recipient: b"Dno\n" if recipient == JOE else b"Zlater"
    rig.turns()

    assert steps == [rig.layout.bounce(number), f"{rig.layout.path}/bounce", "mark"]


def test_the_envelope_is_gone_for_good_before_the_message_is_let_go(rig, monkeypatch):
    number = preprocessed(rig, local=b"Tjoe@here.example\0")
    steps = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    rig.restart()
    rig.remover.remove_message = lambda number: steps.append(number)
    rig.turns()

    assert steps == [os.path.dirname(rig.layout.info(number)), number]


@pytest.mark.parametrize("kind", ["info", "local"])
def test_a_file_that_somebody_took_away_stops_nothing(rig, kind):
    number = preprocessed(rig, local=b"Tjoe@here.example\0")
    preprocessed(rig, 46, local=b"Tann@here.example\0")
    rig.scheduler.jobs.waiting[0].add(int(rig.clock.now), 46)
    rig.scheduler.jobs.waiting[0].add(int(rig.clock.now), number)
    os.unlink(getattr(rig.layout, kind)(number))
    rig.turns()

    assert rig.local.recipients == [ANN]
    assert rig.files(number) <= {"mess", "local"}


def test_a_broken_file_is_told_and_left(rig):
    number = preprocessed(rig, local=b"Tann@here.example\0Qwhat\0")
    rig.restart()
    rig.turns()

    assert rig.local.recipients == [ANN]
    assert f"warning: unknown record type in local/0/{number}!" in rig.lines
    assert rig.read("local", number) == b"Dann@here.example\0Qwhat\0"


def test_hup_rereads_domains_and_concurrency(rig):
    controls = rig.home.controls
    for name, text in {
        "locals": b"new.example\n",
        "virtualdomains": b"v.example:v\n",
        "concurrencylocal": b"3\n",
    }.items():
        with open(rig.home.control(name), "wb") as file:
            file.write(text)
    rig.scheduler.reread(controls)
    rig.send(b"a@new.example", b"b@v.example", JOE)
    rig.turns()

    assert rig.local.recipients == [b"a@new.example", b"v-b@v.example"]
    assert rig.remote.recipients == [JOE]
    assert "status: local 0/3 remote 0/20" in rig.lines


def test_the_name_of_the_host_is_what_it_was_at_the_start(rig):
    controls = rig.home.controls
    with open(rig.home.control("me"), "wb") as file:
        file.write(b"start.example\n")
    rig.scheduler.common.use(read_settings(controls))
    os.unlink(rig.home.control("me"))
    rig.scheduler.reread(controls)
    rig.send(b"a@start.example", b"b@other.example")
    rig.turns()

    assert rig.local.recipients == [b"a@start.example"]
    assert rig.remote.recipients == [b"b@other.example"]


def test_hup_with_an_unreadable_file_changes_nothing(rig):
    with open(rig.home.control("locals"), "wb") as file:
        file.write(b"new.example\n")
    os.mkdir(rig.home.control("virtualdomains"))
    rig.scheduler.reread(rig.home.controls)
    rig.send(JOE)
    rig.turns()

    assert "alert: unable to reread control/virtualdomains" in rig.lines
    assert rig.local.recipients == [JOE]


def test_concurrency_zero_puts_a_channel_on_hold(make_rig):
    rig = make_rig()
    rig.scheduler.common.use(replace(rig.settings, concurrency=(0, 20)))
    rig.send(JOE, FAR)
    rig.turns()
    assert (rig.local.recipients, rig.remote.recipients) == ([], [FAR])

    rig.scheduler.common.use(rig.settings)
    rig.turns()
    assert rig.local.recipients == [JOE]
    assert rig.queue_is_empty()


def test_more_than_255_deliveries_at_once(make_rig):
    rig = make_rig()
    rig.scheduler.common.use(replace(rig.settings, concurrency=(10, 600)))
    rig.remote.answer = lambda recipient: None
    for _ in range(600):
        rig.send(FAR)
    rig.turns(4)
    assert len(rig.remote.open) == 600
    assert len({order.number for order in rig.remote.open}) == 600

    rig.remote.answer = lambda recipient: b"Kok"
    rig.turns()
    assert rig.queue_is_empty()


def test_stale_files_are_removed_after_36_hours(rig):
    old, young = 23, 46
    for number in (old, young):
        with open(rig.layout.mess(number), "wb") as file:
            file.write(b"half a mess")
    os.utime(rig.layout.mess(old), (rig.clock.now - 129_601,) * 2)
    os.utime(rig.layout.mess(young), (rig.clock.now - 100,) * 2)
    with open(rig.layout.intd(old), "wb"):
        pass
    rig.restart()
    rig.turns()

    assert rig.files(old) == set()
    assert rig.files(young) == {"mess"}
    rig.sleep(3 * 76431)
    assert rig.files(young) == set()


@pytest.mark.parametrize("removed", [True, False])
def test_a_todo_file_that_goes_while_a_new_scheduler_starts_hides_no_message(rig, removed):
    number = rig.queue(JOE)
    for path, text in ((rig.layout.info(number), b"Fsender@there.example\0"), (rig.layout.local(number), JOE)):
        with open(path, "wb") as file:
            file.write(text if text != JOE else b"T" + JOE + b"\0")
    rig.scheduler.inventory.load()  # as at a start, when the former one has asked for the removal of todo/N
    if removed:
        os.unlink(rig.layout.todo(number))
    rig.scheduler.scan.want()
    rig.turns()
    rig.sleep(20)

    assert rig.local.recipients == [JOE], "once, whoever finds it"
    assert rig.queue_is_empty()


def test_a_todo_file_that_goes_late_hides_no_message(rig):
    number = preprocessed(rig, local=b"T" + JOE + b"\0")
    with open(rig.layout.todo(number), "wb"):
        pass
    rig.scheduler.inventory.load()
    rig.scheduler.scan.hold()  # the daemon has not answered, and is busy for longer than anybody thought
    rig.sleep(60)
    assert rig.local.recipients == []
    os.unlink(rig.layout.todo(number))
    rig.sleep(20)

    assert rig.local.recipients == [JOE]


def test_a_message_that_was_between_two_states_need_not_wait_for_a_clock_that_was_set_back(rig):
    number = preprocessed(rig, local=b"T" + JOE + b"\0")
    with open(rig.layout.todo(number), "wb"):
        pass
    rig.scheduler.inventory.load()
    os.unlink(rig.layout.todo(number))
    rig.clock.now -= 30 * 86400
    os.utime(rig.layout.local(number), (rig.clock.now, rig.clock.now))
    rig.sleep(20)

    assert rig.local.recipients == [JOE]


def test_a_list_that_cannot_be_examined_at_the_start_is_tried_once(rig, monkeypatch):
    number = preprocessed(rig, local=b"T" + JOE + b"\0", remote=b"T" + FAR + b"\0")
    real = os.stat

    def fail(path, *arguments, **options):
        if path in (rig.layout.local(number), f"{rig.layout.path}/local/{number % 23}/{number}"):
            raise OSError(5, "I/O error")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", fail)
    rig.local.answer = rig.remote.answer = lambda recipient: None
    rig.scheduler.inventory.load()
    rig.turns()
    monkeypatch.setattr(os, "stat", real)
    rig.sleep(200)

    assert (rig.local.recipients, rig.remote.recipients) == ([JOE], [FAR])


def test_deferred_messages_wait_no_longer_when_the_clock_is_set_back(rig):
    number = preprocessed(rig, due=300, local=b"T" + JOE + b"\0")
    rig.scheduler.inventory.load()
    rig.clock.now -= 30 * 86400
    rig.turns()
    assert int(os.stat(rig.layout.local(number)).st_mtime) == rig.clock.now + 300, "for the next scheduler"
    rig.local.answer = lambda recipient: b"Zlater"
    rig.sleep(300)
    assert rig.local.recipients == [JOE]
    rig.sleep(100)
    assert rig.local.recipients == [JOE, JOE], "a message that seems to come from the future is a new one"


def test_a_try_during_which_the_clock_is_set_back_is_not_the_last_for_a_month(rig):
    preprocessed(rig, local=b"T" + JOE + b"\0")
    rig.scheduler.inventory.load()
    rig.local.answer = lambda recipient: None
    rig.turns()
    rig.clock.now -= 30 * 86400
    rig.turns()
    rig.local.answer = lambda recipient: b"Zlater"
    rig.turns()
    rig.sleep(100)

    assert rig.local.recipients == [JOE, JOE]


def test_a_deliverer_that_is_given_up_while_it_reports_stops_nobody(rig):
    rig.local.answer = lambda recipient: None
    number = rig.send(JOE)
    rig.turns()
    channel = rig.scheduler.common.channels[0]
    rig.scheduler.surroundings.work = lambda: rig.scheduler.lost(channel) if channel.reader >= 0 else None
    rig.local.report(rig.local.open[0], b"Kok")
    for _ in range(3):
        rig.scheduler.turn(0)

    assert rig.read("local", number) == b"T" + JOE + b"\0"


def test_a_note_that_cannot_be_written_keeps_no_other_one_waiting(rig):
    rig.local.answer = lambda recipient: b"Dno such user\n"
    numbers = [preprocessed(rig, number, local=b"T" + JOE + b"\0") for number in (23, 46)]
    os.mkdir(rig.layout.bounce(numbers[1]))
    rig.scheduler.inventory.load()
    rig.turns()
    rig.sleep(60)
    assert [text.count(b"no such user") for _sender, _recipient, text in rig.injector.bounces] == [1]
    assert rig.read("local", numbers[1]) == b"T" + JOE + b"\0"

    os.rmdir(rig.layout.bounce(numbers[1]))
    rig.sleep(20)
    assert len(rig.injector.bounces) == 2
    assert rig.queue_is_empty()
