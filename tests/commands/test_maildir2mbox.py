"""maildir2mbox: nothing lost, nothing twice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "maildir2mbox"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="pluq's programs are not installed here")


@pytest.fixture
def maildir(tmp_path):
    for part in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / part).mkdir(parents=True)
    return tmp_path / "Maildir"


def put(maildir, name, content, when):
    path = maildir / name
    path.write_bytes(content)
    os.utime(path, (when, when))


def run(maildir, **environment):
    folder = maildir.parent
    defaults = {"MAILDIR": str(maildir), "MAIL": str(folder / "mbox"), "MAILTMP": str(folder / "mbox.tmp")}
    return subprocess.run([PROGRAM], env=defaults | environment, capture_output=True, timeout=60, check=False)


def test_messages_are_appended_oldest_first_and_removed(maildir):
    put(maildir, "new/b", b"Return-Path: <a b@c>\nSubject: one\n\nFrom here\n>From there\n", 1000000000)
    put(maildir, "cur/a:2,S", b"Return-Path: <>\n\nx\n", 900000000)
    put(maildir, "new/.hidden", b"x\n", 900000000)
    mbox = maildir.parent / "mbox"
    mbox.write_bytes(b"From old\n\nold\n\n")
    assert run(maildir).returncode == 0
    assert mbox.read_bytes() == (
        b"From old\n\nold\n\n"
        b"From MAILER-DAEMON Thu Jul 09 16:00:00 1998\nReturn-Path: <>\n\nx\n\n"
        b"From a-b@c Sun Sep 09 01:46:40 2001\n"
        b"Return-Path: <a b@c>\nSubject: one\n\n>From here\n>>From there\n\n"
    )
    assert sorted(path.name for path in maildir.rglob("*") if path.is_file()) == [".hidden"]
    assert mbox.stat().st_mode & 0o777 == 0o600


def test_a_last_line_without_a_newline_is_kept(maildir):
    put(maildir, "new/a", b"Subject: x\n\nno newline", 1)
    put(maildir, "new/b", b"From me", 2)
    put(maildir, "new/c", b"", 3)
    assert run(maildir).returncode == 0
    assert (maildir.parent / "mbox").read_bytes() == (
        b"From XXX Thu Jan 01 00:00:01 1970\nSubject: x\n\nno newline\n\n"
        b"From XXX Thu Jan 01 00:00:02 1970\n>From me\n\n"
        b"From XXX Thu Jan 01 00:00:03 1970\n\n"
    )


def test_a_line_longer_than_the_buffer_is_one_line(maildir):
    long = b"y" * 65536 + b"From here\n"
    put(maildir, "new/a", b"Subject: x\n\n" + long, 1)
    assert run(maildir).returncode == 0
    assert (maildir.parent / "mbox").read_bytes().endswith(b"\n\n" + long + b"\n")


def test_an_unreadable_message_leaves_everything_in_place(maildir):
    put(maildir, "new/a", b"Subject: x\n\n", 1)
    (maildir / "new" / "b").mkdir()
    os.utime(maildir / "new" / "b", (2, 2))
    done = run(maildir)
    assert (done.returncode, done.stderr) == (
        111,
        b"maildir2mbox: fatal: unable to read $MAILDIR/new/b: is a directory\n",
    )
    assert (maildir / "new" / "a").exists()
    assert (maildir.parent / "mbox").read_bytes() == b""


def test_old_files_in_tmp_are_removed(maildir):
    put(maildir, "tmp/old", b"", 1)
    (maildir / "tmp" / "fresh").touch()
    assert run(maildir).returncode == 0
    assert [path.name for path in (maildir / "tmp").iterdir()] == ["fresh"]
