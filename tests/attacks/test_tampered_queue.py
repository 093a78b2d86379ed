"""Strange things lie in the queue: each is left alone or put off, and all other mail goes on."""

import contextlib
import os
import signal

import pytest

from pluq.queue.layout import QueueLayout
from pluq.testing.stack import wait_until

pytestmark = pytest.mark.integration

TODO = b"u0\0p1\0Fsender@far.example\0Tjoe@example.org\0"


def make(path, data=b""):
    with open(path, "wb") as file:
        file.write(data)


def wrong_number(layout):
    make(layout.mess(7), b"Subject: wrong number\n\nx\n")
    make(layout.todo(7), TODO)


TAMPERINGS = {
    "a foreign file in todo": lambda layout: make(f"{layout.path}/todo/README"),
    "a folder in todo": lambda layout: os.mkdir(f"{layout.path}/todo/4711"),
    "todo without message": lambda layout: make(layout.todo(99999901), TODO),
    "empty todo": lambda layout: (make(layout.todo(99999902)), make(layout.mess(99999902))),
    "todo cut in the middle": lambda layout: (make(layout.todo(99999903), TODO[:20]), make(layout.mess(99999903))),
    "todo with garbage": lambda layout: (make(layout.todo(99999904), b"\xff" * 3000), make(layout.mess(99999904))),
    "a wrong message number": wrong_number,
    "todo is a link": lambda layout: os.symlink("/etc/passwd", layout.todo(99999905)),
    "message is a link": lambda layout: (
        os.symlink("/etc/passwd", layout.mess(99999906)),
        make(layout.todo(99999906), TODO),
    ),
    "message is a fifo": lambda layout: (os.mkfifo(layout.mess(99999907)), make(layout.todo(99999907), TODO)),
    "todo is a fifo": lambda layout: os.mkfifo(layout.todo(99999908)),
    "info without the rest": lambda layout: make(layout.info(99999909), b"Fx\0"),
    "info is garbage": lambda layout: (
        make(layout.info(99999910), b"\0\0\0"),
        make(layout.local(99999910), b"Tjoe@example.org\0"),
    ),
    "info of a hundred megabytes": lambda layout: (
        make(layout.info(99999911), b"F" + b"x" * 100_000_000),
        make(layout.local(99999911), b"Tjoe@example.org\0"),
    ),
    "recipients cut in the middle": lambda layout: (
        make(layout.info(99999912), b"Fa@far.example\0"),
        make(layout.local(99999912), b"Tjoe@exa"),
        make(layout.mess(99999912), b"x\n"),
    ),
    "a number beyond all": lambda layout: make(f"{layout.path}/todo/" + "9" * 40, TODO),
    "a foreign file in mess": lambda layout: make(f"{layout.path}/mess/0/core"),
    "a foreign file in bounce": lambda layout: make(f"{layout.path}/bounce/x"),
    "a foreign file in pool": lambda layout: make(f"{layout.path}/pool/x"),
}


@pytest.mark.parametrize("when", ["running", "at the start"])
def test_other_mail_goes_on(stack, when):
    layout = QueueLayout(stack.home.queue)
    if when == "at the start":
        stack.stop()
    for number, tamper in enumerate(TAMPERINGS.values()):
        if when == "at the start":
            undo(layout)
        tamper(layout)
        if when == "at the start" and number % 6 == 5:
            stack.start()
            stack.send(f"start {number}")
            stack.wait_mail(f"start {number}")
            stack.stop()
        elif when == "running":
            stack.run("qmail-inject", "joe@example.org", input=b"Subject: %d\n\nx\n" % number)
            stack.process.send_signal(signal.SIGALRM)
    if when == "at the start":
        for tamper in TAMPERINGS.values():
            undo(layout)
            tamper(layout)
        stack.start()
    for name in ("first", "second"):
        stack.send(f"{when} {name}")
    stack.wait_mail(f"{when} first", f"{when} second")
    wait_until(lambda: set(stack.role_pids()) >= {"smtpd", "queue", "send", "lspawn", "rspawn"}, stack.told)
    for box in (stack.maildir() / "new").iterdir():
        assert b"root:x:0:0" not in box.read_bytes(), "what a link leads to is nobody's mail"
    undo(layout)


def undo(layout):
    """Remove what the last ones made."""
    for folder, names, files in os.walk(layout.path):
        for name in files:
            if name.startswith("999999") or name in ("README", "core", "x", "7"):
                with contextlib.suppress(FileNotFoundError):  # the stack removes its own
                    os.unlink(f"{folder}/{name}")
        for name in names:
            if name == "4711":
                os.rmdir(f"{folder}/{name}")
