"""The scheduler and the queue daemon together (two_daemons.py), through random histories with fixed seeds.

    a message that was accepted reaches each recipient, or its sender hears why not; and it leaves the queue, without a restart and
    without a hand; once only, unless somebody was killed, stopped or cut off, or a disk failed
    nobody gets what is another's
    at the end there is no file, no slot, no descriptor and no memory of any message left

PLUQ_HISTORIES=N plays N histories for each seed, PLUQ_SEED=N begins with another one; PLUQ_TRACE=1 tells of a history that fails what each
side did to its files.
"""

from __future__ import annotations

import os
import random
import tempfile

import pytest
from tests.send.two_daemons import DAY, LARGE, Machine, Watch

from pluq.queue.journal import SEGMENTS
from pluq.queue.writer import pull_trigger

HISTORIES = int(os.environ.get("PLUQ_HISTORIES", "20"))
FIRST_SEED = int(os.environ.get("PLUQ_SEED", "0"))
MOST_STEPS = 120
MEMORY = "/dev/shm"
"""Most histories play there. A disk, which gives the inode of a removed file to the next one, is slower."""


# What may happen: how often, and what it is. `pick` is a number up to 1000.


def restart(machine, pick):
    if machine.scheduler is not None:
        machine.bury("send")
        machine.start_send()
        machine.turn_send()


def start(machine, pick):
    machine.start_queue()
    machine.start_send()


def stop_send(machine, pick):
    if machine.scheduler is not None:
        machine.faults |= {"stop", *(["ahead"] if machine.is_set_back else [])}
        machine.scheduler.stop()


def stop_queue(machine, pick):
    if machine.daemon is not None:
        machine.faults.add("stop")
        machine.daemon.stop()


def hang_up(machine, pick):
    if machine.daemon is not None and machine.daemon._link is not None:
        machine.faults.add("hang up")
        machine.daemon._link._hang_up()


def lose(machine, pick):
    machine.faults.add("lose")
    machine.deliverers[pick % 2].lose()


def forward(machine, pick):
    machine.wall += JUMPS[pick % len(JUMPS)]


def back(machine, pick):
    machine.wall -= JUMPS[pick % len(JUMPS)]
    machine.is_set_back = True
    if machine.scheduler is None or machine.scheduler.inventory._unclear:
        machine.faults.add("ahead")


def look(machine, pick):
    if machine.scheduler is not None:
        machine.scheduler.scan.want()


def alarm(machine, pick):
    if machine.scheduler is not None:
        machine.run("send", machine.scheduler.all_now)


def report(machine, pick):
    outcome = b"KKKKZD"[pick % 6 :][:1] if machine.may_fail else b"K"
    machine.deliverers[pick % 2].report(pick, outcome)


def kill(side):
    def at_a_call(machine, pick):
        machine.kill_in[side] = 1 + pick % 30

    return at_a_call


def fail(machine, pick):
    machine.failing[FAILING[pick % len(FAILING)]] = (1, 1, 2, 5)[pick % 4]


JUMPS = (1, 100, 10_000, 40 * DAY)
FAILING = ("fsync", "fsync", "fdatasync", "syncfs", "link", "unlink", "open", "pwrite", "utime")
READS = (10, 100, 65536)
PLAIN = {
    lambda machine, pick: machine.enter(1 + pick % 3, 30, pick >> 3): 10,
    lambda machine, pick: machine.enter(3 + pick % 20, 30, pick * 1021): 2,
    lambda machine, pick: machine.enter(1 + pick % 3, LARGE, pick >> 3): 1,
    lambda machine, pick: machine.enter(0, 30, 0): 0.3,
    lambda machine, pick: machine.enter_directly(1 + pick % 2, pick >> 3): 1,
    lambda machine, pick: machine.turn_send(): 16,
    lambda machine, pick: machine.turn_queue(): 14,
    lambda machine, pick: machine.deliverers[pick % 2].take(READS[pick % 3]): 8,
    report: 12,
    look: 2,
    lambda machine, pick: pull_trigger(machine.layout): 1,
    alarm: 0.3,
    lambda machine, pick: machine.later(pick / 500): 4,
    lambda machine, pick: machine.end_checkpoint(): 1,
}
CLOCK = {forward: 0.5, back: 0.5}
FAULTS = {
    kill("send"): 0.6,
    kill("queue"): 0.6,
    restart: 0.6,
    start: 2,
    stop_send: 0.3,
    stop_queue: 0.3,
    hang_up: 0.4,
    lose: 0.3,
}
DISK = {fail: 1.0}
KINDS = (PLAIN, PLAIN | CLOCK, PLAIN | FAULTS, PLAIN | CLOCK | FAULTS, PLAIN | DISK, PLAIN | CLOCK | FAULTS | DISK)
NESTED = (0.0, 0.03, 0.2)


def play(watch, folder, dice):
    """Play one history to its end, and judge."""
    before = set(os.listdir("/proc/self/fd"))
    watch.use(dice)
    machine = watch.machine = Machine(folder, dice)
    kind = dice.choice(KINDS)
    machine.may_fail = dice.random() < 0.7
    machine.nested = dice.choice(NESTED)
    start(machine, 0)
    for step in dice.choices(list(kind), list(kind.values()), k=dice.randrange(10, MOST_STEPS)):
        machine.trace.append(getattr(step, "__name__", "step"))
        step(machine, dice.randrange(1000))
    finish(machine)
    judge(machine)
    stop(machine)
    assert set(os.listdir("/proc/self/fd")) == before, "no descriptor is left"


def finish(machine):
    """Let what has begun come to its end, with both sides up and nothing that fails."""
    machine.kill_in = {"send": 0, "queue": 0}
    machine.failing.clear()
    machine.nested = 0.0
    for _ in range(20):
        start(machine, 0)
        machine.later(2)
        machine.turn_queue()
        machine.turn_send()
        if machine.is_up():
            break
    if "ahead" in machine.faults:
        machine.sleep(15)
        machine.run("send", machine.scheduler.all_now)
    machine.sleep(25)
    if not machine.faults & {"disk", "ahead", "lose", "stop"}:
        for message in machine.messages:
            if message.code == 0:
                assert message.tried == set(range(len(message.recipients))), f"{message.ident} was not tried at once"
    machine.sleep(10_000)
    machine.later(2 * DAY)
    machine.sleep(1000)


def judge(machine):
    for message in machine.messages:
        if message.code is None:
            assert machine.faults & {"kill", "disk", "stop"}, "each submitter is answered"
        elif message.code == 0:
            counts = [message.ended.get(index, 0) for index in range(len(message.recipients))]
            assert all(counts), f"{message.ident} was lost: {counts}"
            assert machine.faults or set(counts) <= {1}, f"{message.ident} came more than once: {counts}"
    left = [name for name in machine.left() if not machine.is_excused(name)]
    assert not left, left
    judge_daemon(machine, machine.daemon._committer)
    judge_scheduler(machine, machine.scheduler)


def judge_daemon(machine, committer):
    slots = [slot for owner in (machine.worker, machine.daemon._own_files) for slot in owner.free]
    names = {name for slot in slots for name in (f"m{slot.number}", f"e{slot.number}")}
    more = set(os.listdir(machine.layout.pool)) - names - set(SEGMENTS)
    assert not more or "disk" in machine.faults
    assert not (committer._hot or committer._leaving or committer._finished or committer._settling or committer._void)
    assert not committer._idents
    expected = 2 * len(slots) + 1 + len(committer._todo._fds) + 3  # the pool, and the journal's
    assert len(machine.files_of("queue")) == expected or committer._journal is None
    assert len(machine.daemon._selector.get_map()) == 4, "three listeners and qmail-send"


def judge_scheduler(machine, scheduler):
    fresh, jobs, ending, inventory = scheduler.fresh, scheduler.jobs, scheduler.ending, scheduler.inventory
    assert not (fresh._messages or fresh._ended or fresh._asked or fresh._to_write or len(fresh._again))
    assert not (any(fresh._waiting) or any(map(len, jobs.waiting)) or any(jobs._passes) or jobs._failures)
    assert not (ending._bouncing or len(ending._due) or inventory._unclear or inventory._met)
    assert scheduler.preprocessor.settled and (not scheduler.preprocessor._begun or "disk" in machine.faults)
    assert machine.link.idle and not machine.link._asked
    assert not any(channel.used for channel in scheduler.common.channels)
    batches = {batch._queue for batch in (ending._batch, scheduler.preprocessor._batch, jobs._bounces._batch)}
    assert set(machine.files_of("send")) - {scheduler.scan._trigger} == batches
    assert len(machine.selector.get_map()) == 4, "the daemon, two deliverers, the trigger"


def stop(machine):
    stop_send(machine, 0)
    stop_queue(machine, 0)
    for _ in range(50):
        machine.later(1)
        machine.turn_send()
        machine.turn_queue()
        if machine.scheduler is None and machine.daemon is None:
            break
    assert machine.scheduler is None and machine.daemon is None
    assert not os.listdir(machine.layout.pool) or "disk" in machine.faults
    machine.close()


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 12))
def test_whatever_happens_each_message_reaches_its_recipients_and_leaves(tmp_path, seed):
    in_memory = seed % 6 and os.access(MEMORY, os.W_OK)
    with tempfile.TemporaryDirectory(dir=MEMORY if in_memory else tmp_path) as folder, Watch() as watch:
        for history in range(HISTORIES):
            try:
                play(watch, folder, random.Random(1_000_000 * seed + history))
            except BaseException:
                print(f"history {history} of seed {seed}, with {watch.machine.faults}:", *watch.machine.trace, sep="\n")
                raise
