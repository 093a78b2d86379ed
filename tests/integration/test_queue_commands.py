"""pluq queue hold, release, flush, remove, bounce: on a running stack, and on a queue that nobody serves."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pluq.remote.tcpto import parse_records
from pluq.testing.stack import BIN

pytestmark = pytest.mark.integration

FAR = "ann@far.example"
OTHER = "bob@other.example"


def queue(stack, *arguments):
    command = [str(BIN / "pluq"), "queue", *arguments, "--home", stack.home.path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def listed(stack, *arguments):
    told = queue(stack, "list", "--json", *arguments)
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.fixture
def deferring(new_stack, until):
    """A stack that cannot reach anybody else, with a message for each of two hosts in its queue."""
    stack = new_stack()
    stack.control("smtproutes", ":127.0.0.1:1")
    stack.control("rcpthosts", "example.org\nfar.example\nother.example")
    stack.start()
    stack.send("one", "joe@example.org", FAR)
    stack.send("two", "joe@example.org", OTHER)
    until(lambda: [one["state"] for one in listed(stack)] == ["queued", "queued"], "two deferrals")
    return stack


def test_a_hold_outlives_the_stack_and_is_released(deferring):
    told = queue(deferring, "hold", "--recipient", "far.example")
    assert (told.returncode, told.stdout) == (0, "1 held\n"), told.stderr
    (held,) = listed(deferring, "--held")
    assert held["recipients"][0]["address"] == FAR
    deferring.stop()
    deferring.start()
    deferring.process.send_signal(signal.SIGALRM)
    deferring.send("three")
    deferring.wait_mail("three")
    assert [one["number"] for one in listed(deferring, "--held")] == [held["number"]]
    assert queue(deferring, "release", str(held["number"])).stdout == "1 released\n"
    assert listed(deferring, "--held") == []


def test_bounce_sends_one_ordinary_bounce(deferring):
    told = queue(
        deferring, "bounce", "--sender", "joe@example.org", "--recipient", FAR, "--reason", "The host is gone."
    )
    assert told.stdout == "1 given up\n"
    deferring.wait_mail("failure notice")
    (path,) = (deferring.maildir() / "new").iterdir()
    text = path.read_text()
    assert (
        f"<{FAR}>:\nThe postmaster of this system has given up on this message. (#5.0.0)\nThe host is gone.\n" in text
    )
    assert [one["recipients"][0]["address"] for one in listed(deferring)] == [OTHER]


def test_remove_is_silent(deferring):
    assert queue(deferring, "remove", "--all", "--dry-run").stdout.endswith("2 messages; nothing was done\n")
    assert len(listed(deferring)) == 2
    assert queue(deferring, "remove", "--all").stdout == "2 removed\n"
    assert listed(deferring) == []
    deferring.send("after")
    deferring.wait_mail("after")
    assert "failure notice" not in deferring.subjects()


def test_flush_forgets_who_did_not_answer(deferring, until):
    tcpto = f"{deferring.home.queue}/lock/tcpto"
    with open(tcpto, "r+b") as file:
        file.write(bytes((192, 0, 2, 1, 5)) + bytes(11) + bytes((127, 0, 0, 1, 5)) + bytes(11))
    before = deferring.log.read_text().count("starting delivery")
    assert queue(deferring, "flush", "--recipient", "other.example").stdout == "1 due now\n"
    until(lambda: deferring.log.read_text().count("starting delivery") == before + 1, "one more try")
    assert [one.address for one in read_records(tcpto) if one.count] == ["192.0.2.1"]
    assert queue(deferring, "flush").stdout == "2 due now\n"
    assert not any(one.count for one in read_records(tcpto))


def read_records(path):
    return parse_records(Path(path).read_bytes())


def test_a_word_that_is_no_number_is_told_what_it_may_have_been_meant_for(deferring):
    told = queue(deferring, "flush", "far.example")
    assert told.returncode == 2
    assert "--recipient far.example" in " ".join(told.stderr.split())


def test_a_stopped_queue_obeys_as_well(deferring):
    deferring.stop()
    first = listed(deferring)[0]["number"]
    assert queue(deferring, "hold", "--all").stdout == "2 held\n"
    assert queue(deferring, "release", str(first)).stdout == "1 released\n"
    assert queue(deferring, "bounce", str(first)).stdout == "1 given up\n"
    assert [one["state"] for one in listed(deferring)] == ["bouncing", "held"]
    assert queue(deferring, "remove", "--held").stdout == "1 removed\n"
    deferring.start()
    deferring.wait_mail("failure notice")
    deferring.wait_empty()


def test_a_message_that_nobody_has_looked_at_can_be_held_on_a_stopped_queue(new_stack):
    stack = new_stack(single=True)
    stack.run("qmail-inject", "-fjoe@example.org", "joe@example.org", input=b"Subject: early\n\nx\n")
    assert [one["state"] for one in listed(stack)] == ["todo"]
    assert queue(stack, "hold", "--all").stdout == "1 held\n"
    stack.start()
    stack.send("late")
    stack.wait_mail("late")
    assert stack.subjects() == ["late"]
    assert queue(stack, "release").stdout == "1 released\n"
    stack.wait_mail("early")


def open_files(pid):
    try:
        return " ".join(os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return ""  # one was closed meanwhile


def test_an_order_outlives_the_death_of_the_scheduler(deferring, until):
    pid = deferring.role_pids()["send"]
    os.kill(pid, signal.SIGSTOP)
    command = [str(BIN / "pluq"), "queue", "hold", "--all", "--home", deferring.home.path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    until(lambda: "socket" in open_files(process.pid), "a connection to the scheduler")
    os.kill(pid, signal.SIGKILL)
    assert process.communicate(timeout=60)[0] == "2 held\n"
    assert len(listed(deferring, "--held")) == 2


def test_another_scheduler_is_not_disturbed(deferring):
    deferring.stop()
    with open(f"{deferring.home.queue}/lock/sendmutex") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        told = queue(deferring, "hold", "--all")
    assert told.returncode == 111
    assert "qmail-send is already running, by qmail-start, and takes no orders: stop it first" in told.stderr
    assert len(listed(deferring)) == 2


def test_strangers_may_not_give_orders(deferring):
    if os.getuid() != 0:
        pytest.skip("needs root, to be somebody else")
    command = [str(BIN / "pluq"), "queue", "remove", "--all", "--home", deferring.home.path]
    told = subprocess.run(command, user="nobody", capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode != 0
    assert len(listed(deferring)) == 2


def test_without_a_filter_nothing_is_removed(deferring):
    for verb in ("remove", "bounce", "hold"):
        assert queue(deferring, verb).returncode == 2
    assert queue(deferring, "remove", "999999999").returncode == 1
    assert len(listed(deferring)) == 2
