"""The power goes: an ext4 filesystem is shut down without flushing its journal, mounted again, and looked at."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest
from tests.torture.disks import new_disk, why_not

from pluq.config import Home, current_ids
from pluq.queue.client import DaemonSubmission
from pluq.queue.layout import QueueLayout
from pluq.queue.lease_client import LeaseSubmitter
from pluq.queue.reader import todo_numbers
from pluq.queue.records import parse_todo
from pluq.queue.recovery import recover
from pluq.supervisor.hier import make_home

pytestmark = [pytest.mark.integration]
QUEUE = "from pluq.commands.qmail_queue import main; raise SystemExit(main())"


@pytest.fixture
def disk():
    reason = why_not("ext4")
    if reason:
        pytest.skip(f"{reason} to cut the power of a filesystem")
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(new_disk("ext4"))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"cannot mount a filesystem here: {error.stderr}")
        yield made


@pytest.fixture
def home(disk):
    home = Home(f"{disk.path}/home")
    make_home(home, current_ids())
    os.sync()
    return home


def senders(home):
    """Return the senders of the messages in the queue, each with a message that is whole."""
    layout = QueueLayout(home.queue)
    found = set()
    for number in todo_numbers(layout):
        with open(layout.todo(number), "rb") as todo, open(layout.mess(number), "rb") as message:
            sender = parse_todo(todo.read()).sender
            assert message.read().endswith(b"\n\nbody of %b\n" % sender)
            found.add(sender)
    return found


def test_what_qmail_queue_accepted_is_there_afterwards(disk, home, tmp_path):
    accepted = set()
    for index in range(5):
        sender = b"sender-%d" % index
        (tmp_path / "message").write_bytes(b"Subject: x\n\nbody of %b\n" % sender)
        (tmp_path / "envelope").write_bytes(b"F%b\0Ta\0\0" % sender)
        with open(tmp_path / "message", "rb") as stdin, open(tmp_path / "envelope", "rb") as stdout:
            environment = {**os.environ, "PLUQ_HOME": home.path}
            subprocess.run([sys.executable, "-c", QUEUE], stdin=stdin, stdout=stdout, env=environment, check=True)
        accepted.add(sender)
    disk.cut()
    disk.unmount()
    disk.mount()
    assert senders(home) == accepted


async def test_what_the_daemon_accepted_is_there_and_nothing_is_delivered_twice(disk, home, daemon, send_link):
    process = daemon()
    link = send_link()
    submitter = LeaseSubmitter(home)
    accepted, finished = set(), set()

    async def submit(sender):
        submission = await submitter.open()
        submission.write(b"Subject: x\n\nbody of %b\n" % sender)
        await submission.commit(sender, [b"a"])
        accepted.add(sender)

    def submit_local(sender):
        submission = DaemonSubmission.connect(f"{home.run}/qmqp")
        submission.write(b"Subject: x\n\nbody of %b\n" % sender)
        submission.commit(sender, [b"a"])
        accepted.add(sender)

    for turn in range(8):
        await asyncio.gather(*(submit(b"%d-%d" % (turn, index)) for index in range(10)))
        await asyncio.to_thread(submit_local, b"%d-local" % turn)
        for _ in range(11):
            head, _nul, todo = link.recv(70000).partition(b"\0")
            if turn < 5:
                link.send(b"m" + head[1:].split(b" ")[0])
                finished.add(parse_todo(todo).sender)
    disk.cut()
    submitter.close()
    process.stop(signal.SIGKILL)
    link.close()
    disk.unmount()
    disk.mount()
    recover(QueueLayout(home.queue))
    # Groups after turn 5 synced the journal, so the last of the finished ones are durably gone as well.
    assert senders(home) == accepted - finished
    process = daemon()
    await asyncio.to_thread(submit_local, b"again")
    assert b"again" in senders(home)
    assert process.stop() == 0
