"""Nothing runs half configured: each fault is named with its file, and all of them at once."""

import os

import pytest

from pluq.config import Home, current_ids
from pluq.supervisor.check import faults
from pluq.supervisor.hier import Site, make_home, make_site


@pytest.fixture
def home(tmp_path):
    made = Home(str(tmp_path / "home"))
    make_home(made, current_ids())
    make_site(made, current_ids(), Site("mail.example.org", ("example.org",), "./Maildir/"))
    return made


def told(home):
    return [str(fault).removeprefix(home.path + "/") for fault in faults(home, current_ids())]


def test_no_home_at_all(tmp_path):
    (fault,) = faults(Home(str(tmp_path / "nowhere")), current_ids())
    assert "pluq init" in str(fault)


def test_a_number_that_is_none(home):
    with open(home.control("concurrencyremote"), "w") as file:
        file.write("many\n")
    assert told(home) == ["control/concurrencyremote:1: 'many' is not a number"]


def test_a_missing_name(home):
    os.unlink(home.control("me"))
    assert told(home)[0].startswith("control/me: missing")


def test_an_unreadable_file(home):
    os.unlink(home.control("locals"))
    os.symlink("locals", home.control("locals"))
    assert told(home) == ["control/locals: Too many levels of symbolic links"]


def test_every_fault_of_the_queue_is_told(home):
    os.rmdir(f"{home.queue}/intd")
    os.unlink(f"{home.queue}/lock/trigger")
    with open(f"{home.queue}/lock/trigger", "w"), open(f"{home.queue}/lock/tcpto", "w"):
        pass
    assert [line.partition(":")[0] for line in told(home)] == ["queue/intd", "queue/lock/trigger", "queue/lock/tcpto"]


def test_a_home_from_before_plugins_had_folders_is_told(home):
    os.rmdir(home.state("smtpd"))
    assert told(home) == []
    with open(home.control("pluq.toml"), "w") as file:
        file.write('[profile.mx]\nlisten = ["127.0.0.1:2525"]\n')
    assert told(home) == ["state/smtpd: No such file or directory: `pluq init` makes what is missing"]


def test_a_python_that_the_qmail_users_cannot_reach_is_told(tmp_path):
    from pluq.supervisor.check import closed_folder

    (tmp_path / "closed" / "lib").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    assert closed_folder(str(tmp_path / "closed" / "lib" / "os.py")) == str(tmp_path / "closed")
    assert closed_folder("/usr/bin/env") is None
