"""qmail-queue's own way into the queue."""

import os
import signal
import subprocess
import sys

import pytest

from pluq.queue import refusal
from pluq.queue.refusal import QueueRefusal
from pluq.queue.writer import EnvelopeReader, QueueWriter

PROGRAM = [sys.executable, "-c", "from pluq.commands.qmail_queue import main; raise SystemExit(main())"]
ENVELOPE = b"Fa@b\0Tc@d\0Te@f\0\0"
MESSAGE = b"Subject: x\n\nbody\n"
FIRST_LINE = b"Received: (qmail 1 invoked by test)\n"


def reader(data):
    chunks = [data]
    return lambda size: chunks.pop() if chunks else b""


def queue(layout, message=MESSAGE, envelope=ENVELOPE, pid=1234):
    writer = QueueWriter(layout, pid, 1000, FIRST_LINE)
    writer.write_message(reader(message))
    writer.write_envelope(reader(envelope))
    writer.enqueue()
    return writer.number


@pytest.fixture
def run_program(home, tmp_path):
    """Start qmail-queue on a message and an envelope."""

    def start(message=MESSAGE, envelope=ENVELOPE):
        (tmp_path / "message").write_bytes(message)
        (tmp_path / "envelope").write_bytes(envelope)
        with open(tmp_path / "message", "rb") as stdin, open(tmp_path / "envelope", "rb") as stdout:
            environment = {**os.environ, "PLUQ_HOME": home.path}
            return subprocess.Popen(PROGRAM, stdin=stdin, stdout=stdout, env=environment)

    return start


def test_a_message_is_queued_as_qmail_does(layout, look):
    number = queue(layout)
    found = look()
    assert found.states == {number: "S4"}
    assert found.messages[number] == FIRST_LINE + MESSAGE
    assert found.envelopes[number] == (1000, 1234, b"a@b", [b"c@d", b"e@f"])
    assert os.path.samefile(layout.intd(number), layout.todo(number))
    assert os.listdir(f"{layout.path}/pid") == []


def test_success_comes_only_after_everything_was_synced(layout, monkeypatch):
    steps = []
    for name in ("fsync", "link"):
        original = getattr(os, name)

        def note(*arguments, name=name, original=original):
            if name == "fsync":
                info = os.fstat(arguments[0])
                path = os.readlink(f"/proc/self/fd/{arguments[0]}")
                # The message file is open by the name that it had in pid/: its inode tells what it is.
                steps.append((name, info.st_ino if path.endswith("(deleted)") else os.path.relpath(path, layout.path)))
            else:
                steps.append((name, os.path.relpath(arguments[-1], layout.path)))
            return original(*arguments)

        monkeypatch.setattr(os, name, note)
    number = queue(layout)
    part = number % layout.split

    assert steps == [
        ("link", f"mess/{part}/{number}"),
        ("fsync", number),
        ("fsync", f"mess/{part}"),
        ("fsync", f"intd/{number}"),
        ("link", f"todo/{number}"),
        ("fsync", "todo"),
    ]


def test_a_kill_between_any_two_steps_leaves_a_state_that_qmail_knows(layout, look, in_child, kill_before):
    seen = set()
    for count in range(1, 100):

        def work(count=count):
            kill_before(count)
            queue(layout, pid=os.getpid())

        before = look().states
        status = in_child(work)
        states = {number: state for number, state in look().states.items() if number not in before}
        assert len(states) <= 1
        seen.update(states.values() or {"S1"})
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0
    assert seen == {"S1", "S2", "S3", "S4"}


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (b"", refusal.READ_ERROR),
        (b"Fa", refusal.READ_ERROR),
        (b"Fa\0Tb\0", refusal.READ_ERROR),
        (b"Ta\0\0", refusal.BAD_ENVELOPE),
        (b"Fa\0\1", refusal.BAD_ENVELOPE),
        (b"F" + b"a" * 1003 + b"\0\0", refusal.ADDRESS_TOO_LONG),
        (b"Fa\0T" + b"a" * 5000, refusal.ADDRESS_TOO_LONG),
    ],
)
def test_a_bad_envelope_is_refused(layout, look, envelope, code):
    with pytest.raises(QueueRefusal) as refused:
        queue(layout, envelope=envelope)
    assert refused.value.code == code
    states = list(look().states.values())
    assert states == ([] if code == refusal.READ_ERROR else ["S3"])


def test_an_envelope_may_come_byte_by_byte():
    envelope = EnvelopeReader()
    records = b"".join(envelope.records(ENVELOPE[at : at + 1]) for at in range(len(ENVELOPE)))
    assert envelope.complete
    assert records == ENVELOPE[:-1]


@pytest.mark.parametrize("step", ["fsync", "write"])
def test_what_cannot_be_written_is_refused_and_removed(layout, look, monkeypatch, step):
    original = getattr(os, step)
    for failing in range(1, 6):
        calls = []

        def fail(*arguments, calls=calls, failing=failing):
            calls.append(arguments)
            if len(calls) == failing:
                raise OSError(28, "No space left on device")
            return original(*arguments)

        monkeypatch.setattr(os, step, fail)
        try:
            queue(layout)
        except QueueRefusal as error:
            assert error.code == refusal.WRITE_ERROR
            assert look().states == {}
        else:
            assert len(calls) < failing
            break


def test_the_program_waits_for_everything_and_exits_with_zero(run_program, look):
    processes = [run_program() for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    found = look()
    assert list(found.states.values()) == ["S4"] * 6
    assert {todo.pid for todo in found.envelopes.values()} == {process.pid for process in processes}
    assert {todo.uid for todo in found.envelopes.values()} == {os.getuid()}


def test_the_program_says_what_is_wrong_by_its_exit_code(run_program, home, layout):
    assert run_program(envelope=b"X").wait(60) == 91
    os.rename(f"{layout.path}/intd", f"{layout.path}/elsewhere")
    assert run_program().wait(60) == 65
    os.rename(f"{layout.path}/mess", f"{layout.path}/elsewhere/mess")
    assert run_program().wait(60) == 64
    os.rename(f"{layout.path}/pid", f"{layout.path}/elsewhere/pid")
    assert run_program().wait(60) == 63
    os.rename(layout.path, f"{home.path}/elsewhere")
    assert run_program().wait(60) == 62


def test_the_program_starts_cheaply(run_program):
    """CPU time of the whole command, the best of five: other tests run beside this one."""

    def cost():
        process = run_program()
        _pid, _status, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        return usage.ru_utime + usage.ru_stime

    assert min(cost() for _ in range(5)) < 0.15


def test_the_trigger_is_pulled(layout):
    fd = os.open(layout.trigger, os.O_RDONLY | os.O_NONBLOCK)
    queue(layout)
    assert os.read(fd, 100) == b"\0"
    os.close(fd)


def test_a_number_that_is_in_use_is_never_overwritten(layout, monkeypatch):
    """A queue restored from a copy has messages whose number is not their inode."""
    original = os.link

    def taken(source, target):
        with open(target, "wb") as file:
            file.write(b"a message")
        original(source, target)

    monkeypatch.setattr(os, "link", taken)
    with pytest.raises(QueueRefusal) as refused:
        queue(layout)
    assert refused.value.code == refusal.MESS_ERROR


def test_a_message_that_was_taken_for_a_stale_file_is_refused(layout, monkeypatch):
    """A clock that jumps by days makes every file old, also one that is being written."""
    original = os.link

    def cleaned(source, target):
        if "/todo/" in target:
            os.unlink(layout.mess(int(os.path.basename(target))))
        original(source, target)

    monkeypatch.setattr(os, "link", cleaned)
    with pytest.raises(QueueRefusal) as refused:
        queue(layout)
    assert refused.value.code == refusal.WRITE_ERROR
    assert not os.listdir(f"{layout.path}/todo")
