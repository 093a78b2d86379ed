"""A batch of Maildir deliveries: one wait for all, success for none before its name is safe, failures apart."""

import os

import pytest

from pluq.local import disks as disks_module
from pluq.local.deliver import prepare
from pluq.local.disks import FEW, Disks
from pluq.local.group import Group
from pluq.local.order import Order
from pluq.store import maildir


@pytest.fixture
def home(tmp_path):
    for box in ("Maildir", "Other"):
        for name in ("tmp", "new", "cur"):
            (tmp_path / "joe" / box / name).mkdir(parents=True)
    os.chmod(tmp_path / "joe", 0o755)
    return tmp_path / "joe"


class Batch:
    def __init__(self, home, message):
        self.home = home
        self.message = message
        self.done = []
        self.failures = {}
        self.group = Group(Disks(), self.done.append, self.failures.__setitem__)

    def add(self, job, path=b"./Maildir/"):
        order = Order(b"joe", os.fsencode(self.home), b"joe", b"", b"", b"h", b"s@x", path)
        ready = prepare(order, self.message(b"A: %d\n" % job))
        try:
            self.group.add(job, path, ready)
        finally:
            os.close(ready.folder)


@pytest.fixture
def batch(home, message):
    return Batch(home, message)


@pytest.fixture
def calls(monkeypatch):
    """The steps that were taken, in order."""
    taken = []

    def spy(owner, name, label):
        real = getattr(owner, name)

        def call(*arguments, **options):
            taken.append(label)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    spy(Disks, "sync", "sync files")
    spy(maildir, "publish", "publish")
    spy(maildir, "sync_new", "sync new")
    return taken


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 40])
def test_all_arrive_and_each_step_waits_once(home, batch, calls, count):
    for job in range(count):
        batch.add(job)
    assert os.listdir(home / "Maildir/new") == []
    batch.group.commit()
    assert batch.done == list(range(count))
    assert len(os.listdir(home / "Maildir/new")) == count
    assert os.listdir(home / "Maildir/tmp") == []
    assert calls == ["sync files", *["publish"] * count, "sync new"]


def test_each_folder_is_synced_once(home, batch, calls):
    for job in range(6):
        batch.add(job, b"./Other/" if job % 2 else b"./Maildir/")
    batch.group.commit()
    assert sorted(batch.done) == list(range(6))
    assert calls.count("sync new") == 2


def test_a_file_that_is_not_safe_fails_alone_and_is_never_seen(home, batch, monkeypatch):
    for job in range(3):
        batch.add(job)
    real = Disks.sync
    monkeypatch.setattr(Disks, "sync", lambda self, device, files: real(self, device, files) | {files[1]})
    batch.group.commit()
    assert batch.done == [0, 2]
    assert list(batch.failures) == [1]
    texts = sorted((home / "Maildir/new" / name).read_bytes()[-5:] for name in os.listdir(home / "Maildir/new"))
    assert texts == [b"A: 0\n", b"A: 2\n"]
    assert os.listdir(home / "Maildir/tmp") == []


def test_a_name_that_is_not_safe_is_no_success_for_anybody_in_that_folder(batch, monkeypatch):
    for job in range(4):
        batch.add(job, b"./Other/" if job % 2 else b"./Maildir/")
    first = []

    def sync_new(folder):
        first.append(folder)
        if len(first) == 1:
            raise maildir.trouble()

    monkeypatch.setattr(maildir, "sync_new", sync_new)
    batch.group.commit()
    assert len(batch.done) == 2
    assert len(batch.failures) == 2
    assert {job % 2 for job in batch.failures} != {job % 2 for job in batch.done}


def test_a_failed_link_fails_alone(home, batch, monkeypatch):
    for job in range(3):
        batch.add(job)
    real = os.link
    links = []

    def link(*arguments, **options):
        links.append(arguments)
        if len(links) == 2:
            raise OSError(28, "no space")
        real(*arguments, **options)

    monkeypatch.setattr(maildir.os, "link", link)
    batch.group.commit()
    assert batch.done == [0, 2]
    assert list(batch.failures) == [1]
    assert os.listdir(home / "Maildir/tmp") == []


def test_a_batch_leaves_no_descriptor_open(batch, home, message, open_files):
    batch.add(0)
    batch.group.commit()
    before = open_files()
    again = Batch(home, message)
    again.group.disks = batch.group.disks
    for job in range(10):
        again.add(job)
    again.group.commit()
    assert len(open_files()) == len(before) + 10  # the ten messages


def test_a_folder_that_cannot_be_read_is_synced_file_by_file(batch, monkeypatch):
    def refuse(path, *arguments, **options):
        if path == b"new":
            raise PermissionError(13, "no")
        return real(path, *arguments, **options)

    real = os.open
    monkeypatch.setattr(disks_module.os, "open", refuse)
    disks = Disks()
    folder = real(batch.home / "Maildir", os.O_PATH)
    device = disks.of(folder)
    files = [batch.message() for _ in range(FEW + 2)]
    assert disks.sync(device, files) == set()
    os.close(folder)


def test_a_file_that_cannot_even_be_begun_is_lost_alone(home, batch, monkeypatch):
    for job in range(FEW):
        batch.add(job)
    monkeypatch.setattr(disks_module, "start_writing", lambda files: {files[1]} if len(files) == FEW else set())
    batch.group.commit()
    assert batch.done == [0, 2]
    assert list(batch.failures) == [1]
    assert len(os.listdir(home / "Maildir/new")) == FEW - 1
