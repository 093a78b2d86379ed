"""`pluq init` makes a home as qmail would have it, and never touches what is there."""

import os
import stat

import pytest

from pluq.config import Home, current_ids, qmail_ids
from pluq.supervisor.check import faults
from pluq.supervisor.hier import Site, link_programs, make_home, make_site, mark_single_user

SITE = Site("mail.example.org", ("example.org", "example.com"), "./Maildir/")


def made(tmp_path):
    home = Home(str(tmp_path / "home"))
    make_home(home, current_ids())
    make_site(home, current_ids(), SITE)
    return home


def test_a_new_home_is_fit_to_be_served(tmp_path):
    home = made(tmp_path)
    assert faults(home, current_ids()) == []
    assert stat.S_ISFIFO(os.stat(f"{home.queue}/lock/trigger").st_mode)
    assert os.path.getsize(f"{home.queue}/lock/tcpto") == 1024
    assert sorted(map(int, os.listdir(f"{home.queue}/mess"))) == list(range(23))
    assert home.controls.lines("rcpthosts") == [b"example.org", b"example.com"]


def test_making_again_changes_nothing(tmp_path):
    home = made(tmp_path)
    for name in ("me", "rcpthosts"):
        with open(home.control(name), "w") as file:
            file.write("mine\n")
    os.chmod(home.alias, 0o700)
    make_home(home, current_ids())
    make_site(home, current_ids(), SITE)
    assert home.controls.me() == b"mine"
    assert home.controls.lines("rcpthosts") == [b"mine"]
    assert stat.S_IMODE(os.stat(home.alias).st_mode) == 0o700


@pytest.mark.skipif(qmail_ids().single, reason="needs root and the qmail users")
def test_owners_and_modes_are_those_of_qmail(tmp_path):
    home, ids = Home(str(tmp_path / "home")), qmail_ids()
    make_home(home, ids)
    for path, owner, mode in [
        ("", "root", 0o755),
        ("alias", "alias", 0o2755),
        ("queue", "qmailq", 0o750),
        ("queue/todo", "qmailq", 0o750),
        ("queue/intd", "qmailq", 0o700),
        ("queue/mess/22", "qmailq", 0o750),
        ("queue/info/0", "qmails", 0o700),
        ("queue/bounce", "qmails", 0o700),
        ("queue/lock/sendmutex", "qmails", 0o600),
        ("queue/lock/tcpto", "qmailr", 0o644),
        ("queue/lock/trigger", "qmails", 0o622),
    ]:
        status = os.stat(f"{home.path}/{path}")
        uid = 0 if owner == "root" else ids.uid[owner]
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uid, ids.gid["qmail"], mode), path


def test_root_may_keep_a_home_of_its_own(tmp_path):
    home = made(tmp_path)
    mark_single_user(home, current_ids())
    assert home.ids().single


def test_links_lead_only_to_our_programs(tmp_path):
    home = made(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qmail-queue").write_text("#!/usr/bin/python3\nfrom pluq.commands.qmail_queue import main\n")
    (programs / "activate").write_text("PATH=\n")
    (programs / "folder").mkdir()
    link_programs(home, str(programs))
    link_programs(home, str(programs))
    assert os.listdir(home.bin) == ["qmail-queue"]
    assert os.readlink(f"{home.bin}/qmail-queue") == f"{programs}/qmail-queue"
