"""qmail-start with the real programs, in a home of one user."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import time

import pytest

from pluq.store.users import compile_assign

DEADLINE = 60.0
BIN = os.path.dirname(sys.executable)

pytestmark = pytest.mark.skipif(
    not os.path.exists(f"{BIN}/qmail-start"), reason="the programs are not installed beside this Python"
)


@pytest.fixture
def mail_home(send_home, tmp_path):
    """A home with one mailbox, joe's."""
    joe = tmp_path / "joe"
    for name in ("tmp", "new", "cur"):
        (joe / "Maildir" / name).mkdir(parents=True)
    user = f"{getpass.getuser()}:{os.getuid()}:{os.getgid()}:{joe}"
    with open(f"{send_home.users}/assign", "w") as file:
        file.write(f"=joe:{user}:::\n+joe-:{user}:-::\n.\n")
    compile_assign(f"{send_home.users}/assign", f"{send_home.users}/cdb")
    for name, text in (("me", "here.example"), ("singleuser", "")):
        with open(send_home.control(name), "w") as file:
            file.write(f"{text}\n")
    return send_home


def wait(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.02)


def text(path):
    with open(path) as file:
        return file.read()


def test_a_message_is_delivered_and_one_bounces_and_the_logger_gets_it_all(mail_home, tmp_path):
    log, joe = str(tmp_path / "activity"), tmp_path / "joe" / "Maildir" / "new"
    environment = {**os.environ, "PATH": f"{BIN}:/usr/bin:/bin", "PLUQ_HOME": mail_home.path}
    if not os.path.exists(mail_home.bin):
        os.symlink(BIN, mail_home.bin)
    elif not os.listdir(mail_home.bin):
        os.rmdir(mail_home.bin)
        os.symlink(BIN, mail_home.bin)
    command = ["qmail-start", "./Maildir/", "/bin/sh", "-c", f"exec cat >{log}"]
    with subprocess.Popen([f"{BIN}/{command[0]}", *command[1:]], env=environment) as stack:
        try:
            wait(lambda: os.path.exists(log) and "status: local 0/10 remote 0/20\n" in text(log), "the start")
            for recipient in ("joe@here.example", "joe-nobody@here.example"):
                subprocess.run(
                    [f"{BIN}/qmail-inject", "-fjoe@here.example", recipient],
                    input=b"Subject: test\n\nbody\n",
                    env=environment,
                    check=True,
                )
            wait(lambda: text(log).count("\nend msg ") == 3, "three messages")
        finally:
            stack.send_signal(signal.SIGTERM)
    wait(lambda: text(log).endswith("status: exiting\n"), "the last line")

    assert stack.returncode == 0
    assert sorted("failure notice" in text(joe / name) for name in os.listdir(joe)) == [False, True]


def test_nothing_is_printed_on_failure(tmp_path):
    environment = {**os.environ, "PATH": "/nowhere", "PLUQ_HOME": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, f"{BIN}/qmail-start", "./Maildir/"], env=environment, capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (111, b"", b"")
    assert not os.path.exists(tmp_path / "none")
