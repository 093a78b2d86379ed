"""The queue daemon: what it promises to submitters and to qmail-send."""

import asyncio
import contextlib
import errno
import os
import resource
import select
import signal
import socket

import pytest

from pluq.queue import refusal
from pluq.queue.client import DaemonSubmission
from pluq.queue.journal import SEGMENTS, mark_of
from pluq.queue.layout import RECYCLE_BYTES, QueueLayout
from pluq.queue.lease_client import LeaseSubmitter
from pluq.queue.reader import read_todo
from pluq.queue.records import parse_todo
from pluq.queue.recovery import todo_files
from pluq.queue.refusal import QueueRefusal
from pluq.queue.submit import submit_sync
from pluq.store.syncfs import have_syncfs
from pluq.store.unix import connect

MESSAGE = b"Subject: x\n\nbody\n"


def submit(home, message=MESSAGE, sender=b"a@b", recipients=(b"c@d",)):
    submission = DaemonSubmission.connect(f"{home.run}/qmqp")
    submission.write(message)
    return submission.commit(sender, list(recipients))


async def lease(submitter, message=MESSAGE, recipients=(b"c@d",)):
    submission = await submitter.open()
    submission.write(message)
    return await submission.commit(b"a@b", list(recipients))


@pytest.fixture
async def submitter(home):
    """A link to the daemon, made when the test has started one."""
    made = LeaseSubmitter(home)
    yield made
    made.close()


def notification(sock):
    """Return number, size and todo bytes that qmail-send is told."""
    head, _nul, todo = sock.recv(70000).partition(b"\0")
    assert head[:1] == b"n"
    number, size = head[1:].split(b" ")
    return int(number), int(size), todo


def names_in_pool(layout):
    return sorted(set(os.listdir(layout.pool)) - set(SEGMENTS))


def test_a_local_user_queues_without_any_right_to_the_queue(home, look, daemon):
    daemon()
    receipt = submit(home)
    found = look()
    [number] = found.queued
    assert receipt.qp == os.getpid()
    assert found.envelopes[number] == (os.getuid(), os.getpid(), b"a@b", [b"c@d"])
    first, _newline, rest = found.messages[number].partition(b"\n")
    assert first.startswith(b"Received: (qmail %d invoked by uid %d); " % (os.getpid(), os.getuid()))
    assert rest == MESSAGE


async def test_a_worker_writes_into_leased_files(home, look, daemon, submitter):
    daemon()
    receipts = await asyncio.gather(*(lease(submitter, b"%d\n" % index) for index in range(50)))
    found = look()
    assert len(found.queued) == 50
    assert {envelope.pid for envelope in found.envelopes.values()} == {receipt.qp for receipt in receipts}
    bodies = set()
    for number, message in found.messages.items():
        first, _newline, rest = message.partition(b"\n")
        assert first.startswith(b"Received: (qmail %d invoked from network); " % found.envelopes[number].pid)
        bodies.add(rest)
    assert bodies == {b"%d\n" % index for index in range(50)}


async def test_a_large_message_and_a_long_envelope_arrive_whole(home, look, daemon, submitter):
    daemon()
    message = os.urandom(700_000)
    recipients = [b"recipient-%d@example.org" % index for index in range(20_000)]
    await lease(submitter, message, recipients)
    await asyncio.to_thread(submit, home, message, b"a@b", recipients)
    found = look()
    assert len(found.queued) == 2
    for number in found.queued:
        assert found.messages[number].partition(b"\n")[2] == message
        assert found.envelopes[number].recipients == recipients


async def test_a_finished_message_leaves_and_its_file_is_used_again(home, layout, look, daemon, submitter, send_link):
    daemon()
    link = send_link()
    numbers = set()
    for index in range(60):
        body = b"x" * (2000 - 30 * index)
        await lease(submitter, body)
        number, size, todo = notification(link)
        message = look().messages[number]
        assert message.endswith(body)
        assert (len(message), message.count(b"x")) == (size, len(body))
        assert look().envelopes[number] == parse_todo(todo)
        link.send(b"m%d" % number)
        numbers.add(number)
    assert len(numbers) < 60


async def test_a_message_is_never_taken_for_a_stale_file(home, layout, look, daemon, submitter, send_link, eventually):
    daemon()
    link = send_link()
    await lease(submitter)
    hot = notification(link)[0]
    await lease(submitter, b"x" * (RECYCLE_BYTES + 1))
    ordinary = notification(link)[0]
    with open(f"{layout.path}/pid/1", "wb") as file:
        stale = os.fstat(file.fileno()).st_ino
    os.rename(file.name, layout.mess(stale))
    for number in (hot, ordinary, stale):
        link.send(b"c%d" % number)
    eventually(lambda: stale not in look().messages, "the removal")
    assert {hot, ordinary} <= set(look().messages)
    assert {hot, ordinary} <= set(look().queued)
    link.send(b"m%d" % hot)
    eventually(lambda: hot not in look().messages, "the end of the message")
    link.send(b"c%d" % hot)
    await lease(submitter)
    again = notification(link)[0]
    link.send(b"c%d" % again)
    link.send(b"c%d" % ordinary)
    await lease(submitter)
    assert {again, ordinary} <= set(look().messages), "also where its number was in use before"


async def test_a_file_of_one_worker_is_never_given_to_another(home, layout, look, daemon, send_link, eventually):
    daemon()
    link = send_link()
    for count in range(3):
        submitter = LeaseSubmitter(home)
        await asyncio.gather(*(lease(submitter) for _ in range(40)))
        numbers = [notification(link)[0] for _ in range(40)]
        held = [os.open(layout.mess(number), os.O_RDONLY) for number in numbers]
        for number in numbers:
            link.send(b"m%d" % number)
        inodes = {os.fstat(fd).st_ino for fd in held}
        for fd in held:
            os.close(fd)
        await asyncio.to_thread(submit, home)
        assert notification(link)[0] not in inodes
        submitter.close()
        # What remains are the files of the local users' messages, still in the queue.
        local = 2 * (count + 1)
        only_local = lambda local=local: len(names_in_pool(layout)) == local  # noqa: E731
        await asyncio.to_thread(eventually, only_local, "the worker's files to go")


async def test_a_file_that_somebody_has_open_is_not_used_again(home, layout, daemon, submitter, send_link, eventually):
    daemon()
    link = send_link()
    await lease(submitter, b"secret")
    number, _size, _todo = notification(link)
    reader = os.open(layout.mess(number), os.O_RDONLY)
    link.send(b"m%d" % number)
    await asyncio.to_thread(eventually, lambda: f"m{number}" not in names_in_pool(layout), "the file to be given up")
    await asyncio.gather(*(lease(submitter, b"other") for _ in range(40)))
    assert os.read(reader, 1000).endswith(b"secret")
    os.close(reader)


async def test_a_message_that_a_stranger_saw_is_removed_for_good(
    home, layout, daemon, submitter, send_link, eventually
):
    daemon()
    link = send_link()
    await lease(submitter)
    number, _size, _todo = notification(link)
    link.send(b"d%d" % number)
    await asyncio.to_thread(eventually, lambda: not os.path.exists(layout.mess(number)), "the message to go")
    assert f"m{number}" not in names_in_pool(layout)


async def test_a_preprocessed_message_becomes_an_ordinary_one(
    home, layout, look, daemon, submitter, send_link, eventually
):
    daemon()
    link = send_link()
    await lease(submitter)
    number, _size, _todo = notification(link)
    os.close(os.open(layout.info(number), os.O_WRONLY | os.O_CREAT))
    link.send(b"t%d" % number)
    assert await asyncio.to_thread(link.recv, 100) == b"+%d" % number
    assert look().states == {number: "S5"}
    assert not {f"m{number}", f"e{number}"} & set(names_in_pool(layout))
    os.unlink(layout.info(number))
    link.send(b"m%d" % number)
    await asyncio.to_thread(eventually, lambda: not os.path.exists(layout.mess(number)), "the message to go")


def test_a_message_of_qmail_queue_leaves_the_same_way(home, layout, daemon, send_link, eventually):
    process = daemon()
    link = send_link()
    submit(home)
    number, _size, _todo = notification(link)
    process.stop(signal.SIGKILL)
    daemon()
    link = send_link()
    link.send(b"m%d" % number)
    eventually(lambda: not os.path.exists(layout.mess(number)), "the message to go")
    assert not os.path.exists(layout.todo(number))


def test_without_qmail_send_the_trigger_is_pulled_and_the_files_are_ordinary(home, layout, look, daemon, eventually):
    daemon()
    trigger = os.open(layout.trigger, os.O_RDONLY | os.O_NONBLOCK)
    submit(home)
    [number] = look().queued
    eventually(lambda: select.select([trigger], [], [], 0)[0], "the trigger")
    assert os.read(trigger, 10) == b"\0"
    os.close(trigger)
    eventually(lambda: names_in_pool(layout) == [], "the file to be let go of")
    assert os.stat(layout.mess(number)).st_nlink == 1


def test_a_slow_qmail_send_is_told_to_look_itself(home, daemon, send_link):
    def little_room():
        import pluq.queue.daemon

        pluq.queue.daemon.SOCKET_BUFFER = 60_000

    daemon(little_room)
    link = send_link()
    recipients = [b"recipient-%d@example.org" % index for index in range(1000)]
    for _ in range(60):
        submit(home, recipients=recipients)
    packets = []
    while not packets or packets[-1][:1] != b"s":
        packets.append(link.recv(70000))
    assert len(packets) < 61


async def test_a_lease_that_comes_to_nothing_is_used_again(home, layout, look, daemon, submitter):
    daemon()
    for _ in range(100):
        submission = await submitter.open()
        submission.write(b"half a message")
        submission.abort()
    await lease(submitter)
    assert len(look().queued) == 1
    assert len(names_in_pool(layout)) < 100


@pytest.mark.parametrize(
    ("sender", "recipient", "code"),
    [(b"a" * 1003, b"b", refusal.ADDRESS_TOO_LONG), (b"a", b"b\0Tc", refusal.BAD_ENVELOPE)],
)
async def test_an_address_that_no_queue_file_can_hold_is_refused(
    home, look, daemon, submitter, sender, recipient, code
):
    daemon()
    submission = await submitter.open()
    with pytest.raises(QueueRefusal) as refused:
        await submission.commit(sender, [recipient])
    assert refused.value.code == code
    with pytest.raises(QueueRefusal) as refused:
        await asyncio.to_thread(submit, home, b"", sender, [recipient])
    assert refused.value.code == code
    assert look().states == {}


@pytest.mark.parametrize("data", [b"hello", b"5:3:abc,", b"20:3:abc,1:x,9999:", b"9" * 50, b"10:3:abc,1:x,x"])
def test_bytes_that_are_no_request_are_answered_with_a_refusal(home, look, daemon, data):
    daemon()
    sock = connect(f"{home.run}/qmqp", socket.SOCK_STREAM, timeout=60)
    sock.sendall(data)
    assert sock.recv(1000).partition(b":")[2][:1] == b"Z"
    assert sock.recv(1000) == b""
    sock.close()
    assert look().states == {}


def test_a_client_that_goes_away_leaves_nothing(home, layout, look, daemon, eventually):
    daemon()
    for _ in range(5):
        sock = connect(f"{home.run}/qmqp", socket.SOCK_STREAM)
        sock.sendall(b"1000000:900000:" + b"x" * 300_000)
        sock.close()
    submit(home)
    assert len(look().states) == 1
    eventually(lambda: names_in_pool(layout) == [], "large left-overs to go")


def test_a_stalled_client_is_hung_up_on(home, daemon):
    def hurry():
        import pluq.queue.daemon
        import pluq.queue.qmqp_server

        pluq.queue.qmqp_server.IDLE_SECONDS = 0.05
        pluq.queue.daemon.SWEEP_SECONDS = 0.02

    daemon(hurry)
    sock = connect(f"{home.run}/qmqp", socket.SOCK_STREAM, timeout=60)
    with contextlib.suppress(BrokenPipeError):  # on a busy machine it may have hung up already
        sock.sendall(b"1000:")
    assert sock.recv(1000) == b"20:Zqq timeout (#4.3.0),"
    sock.close()


async def test_a_worker_that_breaks_the_protocol_is_hung_up_on(home, daemon, submitter):
    daemon()
    for packet in (b"x", b"?" * 21, b"c" + bytes(20), b"w" + b"\x10" + bytes(19) + b"x"):
        sock = connect(f"{home.run}/lease", socket.SOCK_SEQPACKET, timeout=60)
        sock.send(packet)
        while sock.recv(70000):
            pass
        sock.close()
    await lease(submitter)


def test_a_full_disk_is_a_temporary_refusal_and_nothing_stays(home, look, daemon):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    daemon(small_files)
    with pytest.raises(QueueRefusal) as refused:
        submit(home, b"x" * 500_000)
    assert refused.value.code == refusal.WRITE_ERROR
    assert look().states == {}
    submit(home)
    assert len(look().queued) == 1


async def test_with_no_descriptors_left_it_refuses_and_recovers(home, daemon, submitter, limit_files, look):
    daemon(limit_files(30))
    opened = []
    with pytest.raises(QueueRefusal) as refused:
        for _ in range(100):
            opened.append(await submitter.open())
    assert refused.value.code == refusal.PID_ERROR
    for submission in opened:
        submission.write(MESSAGE)
    await asyncio.gather(*(submission.commit(b"a", [b"b"]) for submission in opened))
    await lease(submitter)
    assert len(look().queued) == len(opened) + 1


def failing_once(module, name, error=5, nth=1):
    """Return a preparation that makes one call of a function fail."""

    def prepare():
        original = getattr(module, name)
        calls = []

        def fail(*arguments):
            calls.append(arguments)
            if len(calls) == nth:
                raise OSError(error, os.strerror(error))
            return original(*arguments)

        setattr(module, name, fail)

    return prepare


LARGE = b"x" * (RECYCLE_BYTES + 1)


@pytest.mark.parametrize("step", ["syncfs", "fsync"])
def test_a_failed_sync_is_no_success_and_the_file_is_never_used_again(home, look, layout, daemon, step):
    """A large message goes by its own files: the data by syncfs, todo/ by fsync. A first fsync was that of the new journal's folder."""
    if not have_syncfs():
        pytest.skip("no syncfs that reports errors on this kernel")
    from pluq.queue import groupsync

    daemon(failing_once(groupsync, step) if step == "syncfs" else failing_once(os, step, nth=2))
    with pytest.raises(QueueRefusal) as refused:
        submit(home, LARGE)
    assert refused.value.code == refusal.WRITE_ERROR
    left = [] if step == "syncfs" else ["S2"]  # qmail-send may have seen it in todo/
    assert [*look().states.values()] == left
    assert names_in_pool(layout) == []
    for _ in range(3):
        submit(home, LARGE)
    assert len(look().queued) == 3


def test_a_daemon_whose_journal_cannot_be_synced_ends_without_a_promise(home, look, daemon, send_link):
    if not have_syncfs():
        pytest.skip("no journal on this kernel")
    process = daemon(failing_once(os, "fdatasync"))
    link = send_link()
    link.send(b"t0")
    assert link.recv(100) == b"+0"
    with pytest.raises(QueueRefusal) as refused:
        submit(home)
    assert refused.value.verdict.startswith("Z")
    assert process.wait() == 111
    daemon()
    submit(home)
    assert look().queued


def test_a_disk_that_has_no_inode_for_a_journal_has_a_daemon(home, look, daemon, monkeypatch):
    original = os.open

    def full(path, *arguments, **options):
        if str(path).endswith(SEGMENTS[1]):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", full)
    process = daemon()
    submit(home)
    assert len(look().queued) == 1
    assert process.stop() == 0


def test_only_what_leaves_by_the_daemon_is_in_its_journal(home, layout, daemon, send_link):
    """Without our qmail-send another one may have qmail-clean remove messages, which would come back from the journal after a crash."""
    if not have_syncfs():
        pytest.skip("no journal on this kernel")
    daemon()
    submit(home)
    link = send_link()
    link.send(b"t0")
    assert link.recv(100) == b"+0"
    submit(home)
    idents = [mark_of(todo) for _number, todo in todo_files(layout)]
    assert sorted(ident is None for ident in idents) == [False, True]


def test_a_file_whose_own_sync_fails_takes_no_other_with_it(layout, monkeypatch):
    from pluq.queue.groupsync import GroupSync

    monkeypatch.setattr("pluq.queue.groupsync.have_syncfs", lambda: False)
    files = [os.open(f"{layout.path}/pid/{index}", os.O_RDWR | os.O_CREAT) for index in range(5)]
    original = os.fsync

    def fail(fd):
        if fd == files[3]:
            raise OSError(5, "Input/output error")
        original(fd)

    monkeypatch.setattr(os, "fsync", fail)
    assert GroupSync(-1).sync(files, [f"{layout.path}/pid"]) == {files[3]}


def test_a_second_daemon_does_not_touch_the_queue(home, layout, daemon):
    first = daemon()
    submit(home)
    os.rename(home.run, f"{home.path}/elsewhere")
    os.mkdir(home.run)
    assert daemon().wait() == 111
    assert first.stop() == 0


def test_term_ends_it_after_what_is_under_way(home, look, daemon, send_link):
    process = daemon()
    link = send_link()
    submit(home)
    number, _size, _todo = notification(link)
    link.send(b"m%d" % number)
    submit(home)
    assert process.stop() == 0
    assert len(look().queued) == 1


async def test_a_daemon_that_dies_takes_no_waiting_worker_with_it(home, daemon, submitter, look):
    process = daemon()
    await lease(submitter)
    submission = await submitter.open()
    process.stop(signal.SIGKILL)
    submission.write(MESSAGE)
    with pytest.raises(QueueRefusal) as refused:
        await submission.commit(b"a", [b"b"])
    assert refused.value.code == refusal.CONNECTION_LOST
    with pytest.raises(QueueRefusal):
        for _ in range(100):
            await submitter.open()
    daemon()
    await lease(submitter)
    assert len(look().queued) == 2


def test_a_kill_before_any_change_to_a_file_loses_nothing_that_was_accepted(
    home, look, daemon, send_link, kill_before, layout
):
    """Two messages enter, the first one leaves; the daemon dies before its n-th change to a file, for every n."""
    for count in range(1, 200):
        process = daemon(lambda count=count: kill_before(count))
        accepted = []
        finished = None
        try:
            link = send_link()
            for _ in range(2):
                submit(home)
                number, _size, _todo = notification(link)
                accepted.append(number)
                if finished is None:
                    finished = number
                    link.send(b"m%d" % number)
        except (QueueRefusal, OSError, AssertionError):
            pass
        status = process.stop()
        found = look()
        assert set(found.states.values()) <= {"S2", "S4"}
        assert set(accepted[1:]) - {finished} <= set(found.queued)
        for number in found.queued:
            assert found.messages[number].endswith(MESSAGE)
            os.unlink(layout.todo(number))
        for number in found.states:
            os.unlink(layout.mess(number))
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0
    assert count > 15


def test_programs_that_know_no_event_loop_go_through_the_daemon(home, look, daemon):
    daemon()
    submit_sync(home, MESSAGE, b"a@b", [b"c@d", b"e@f"], environment={})
    [envelope] = look().envelopes.values()
    assert envelope.recipients == [b"c@d", b"e@f"]


def test_a_big_todo_queue_is_used_as_it_is(home, daemon, send_link, eventually):
    for folder in ("todo", "intd"):
        for part in range(23):
            os.mkdir(f"{home.queue}/{folder}/{part}")
    layout = QueueLayout(home.queue)
    assert layout.todo_split
    daemon()
    link = send_link()
    submit(home)
    number, _size, todo = notification(link)
    assert os.path.exists(f"{home.queue}/todo/{number % 23}/{number}")
    assert read_todo(layout, number) == parse_todo(todo)
    link.send(b"m%d" % number)
    eventually(lambda: not os.path.exists(layout.mess(number)), "the message to go")
    assert not os.path.exists(layout.todo(number))
