"""One process waits for the disk for all workers: what it says is safe was synced, and without it each worker syncs by itself."""

import os
import signal
import socket

import pytest

from pluq.local import disks as disks_module
from pluq.local.disks import MOST_FILES, SharedDisks
from pluq.local.pool import Identity, fork_as
from pluq.local.syncer import Syncer


@pytest.fixture
def maildir(tmp_path):
    """An open Maildir; skipped where the test's folder lies on no disk, for then nothing is shared."""
    if not os.major(os.stat(tmp_path).st_dev):
        pytest.skip("the temporary folder lies on no disk")
    for name in ("tmp", "new", "cur"):
        (tmp_path / name).mkdir()
    folder = os.open(tmp_path, os.O_PATH)
    yield folder
    os.close(folder)


@pytest.fixture
def files(tmp_path):
    """Makes open files."""
    made = []

    def make(count):
        for _ in range(count):
            made.append(os.open(tmp_path / f"{len(made)}", os.O_WRONLY | os.O_CREAT))
            os.write(made[-1], b"text")
        return made[-count:]

    yield make
    for file in made:
        os.close(file)


@pytest.fixture
def syncer():
    """Starts a syncer; returns its door and its process number."""
    started = []

    def start(unsafe=()):
        door, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def serve():
            if unsafe:
                real = os.fsync
                os.fsync = lambda file: real(999_999 if os.fstat(file).st_ino in unsafe else file)
            Syncer(far).serve()

        with far:
            pid = fork_as(Identity(None, 0), [far.fileno()], serve)
        started.append((door, pid))
        return door, pid

    yield start
    for door, pid in started:
        door.close()
        assert os.waitpid(pid, 0)[1] in (0, signal.SIGKILL)


@pytest.fixture
def join():
    """Makes the disks of a worker."""
    made = []

    def make(door):
        made.append(SharedDisks(door))
        return made[-1]

    yield make
    for disks in made:
        disks.close()


@pytest.mark.parametrize("count", [1, 5, MOST_FILES + 1])
def test_the_syncer_makes_files_and_names_safe(syncer, join, maildir, files, count, monkeypatch):
    disks = join(syncer()[0])
    monkeypatch.setattr(disks_module, "is_synced", lambda file: pytest.fail("synced here"))
    device = disks.of(maildir)
    assert disks.sync(device, files(count)) == set()
    assert disks.sync_folders(device, [maildir]) == set()


def test_a_file_that_is_not_safe_is_named_and_no_other(syncer, join, maildir, files):
    three = files(3)
    disks = join(syncer(unsafe={os.fstat(three[1]).st_ino})[0])
    assert disks.sync(disks.of(maildir), three) == {three[1]}


def test_a_worker_whose_syncer_has_died_syncs_by_itself(syncer, join, maildir, files, monkeypatch):
    door, pid = syncer()
    disks = join(door)
    device = disks.of(maildir)
    os.kill(pid, signal.SIGKILL)
    synced = []
    monkeypatch.setattr(disks_module, "is_synced", lambda file: synced.append(file) is None)
    three = files(3)
    assert disks.sync(device, three) == set()
    assert disks.of(maildir) == device
    assert disks.sync(device, three) == set()
    assert synced == three * 2


def test_many_workers_get_each_their_own_answer(syncer, join, maildir, files):
    bad, good = files(1), files(1)
    door = syncer(unsafe={os.fstat(bad[0]).st_ino})[0]
    workers = [join(door) for _ in range(6)]
    devices = [worker.of(maildir) for worker in workers]
    for _ in range(5):
        for index, (worker, device) in enumerate(zip(workers, devices, strict=True)):
            mine = bad if index % 2 else good
            assert worker.sync(device, mine) == (set(bad) if index % 2 else set())


def test_a_packet_out_of_form_ends_its_line_and_no_other(syncer, join, maildir, files):
    door, _ = syncer()
    good = join(door)
    device = good.of(maildir)
    new = disks_module.open_new(maildir)
    with disks_module.join(door, new) as line:
        disks_module.send_files(line, b"?", [new])
        assert line.recv(16) == b""
    os.close(new)
    door.send(disks_module.JOIN)  # nobody to serve
    assert good.sync(device, files(2)) == set()
    assert join(door).of(maildir) == device


def test_nothing_stays_open_with_the_worker(syncer, join, maildir, files, open_files):
    disks = join(syncer()[0])
    device = disks.of(maildir)
    two = files(2)
    before = open_files()
    disks.sync(device, two)
    disks.sync_folders(device, [maildir])
    assert open_files() == before


def test_a_filesystem_without_a_disk_is_the_workers_own_affair(syncer, join, monkeypatch, maildir, files):
    monkeypatch.setattr(disks_module.os, "major", lambda device: 0)
    disks = join(syncer()[0])
    synced = []
    monkeypatch.setattr(disks_module, "is_synced", lambda file: synced.append(file) is None)
    one = files(1)
    assert disks.sync(disks.of(maildir), one) == set()
    assert synced == one
