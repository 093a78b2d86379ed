"""qmail-qread: list the preprocessed messages in the queue, with their recipients. Source: qmail-qread(8)."""

from __future__ import annotations

import os
import sys

from pluq.config.home import Home
from pluq.mail.date import date822
from pluq.queue.layout import QueueLayout
from pluq.queue.reader import numbers, read_channel
from pluq.store.oserror import error_text

# Anything but printable ASCII could change what the reader's terminal shows.
PRINTABLE = bytes(octet if 32 <= octet <= 126 else ord("_") for octet in range(256))


def main() -> int:
    home = Home.from_environment()
    try:
        os.chdir(home.path)
        os.chdir(home.queue)
    except OSError as error:
        return fail("fatal: unable to chdir", error)
    layout = QueueLayout(home.queue)
    for part in range(layout.split):
        try:
            found = numbers(f"{layout.path}/info/{part}")
        except OSError as error:
            return fail(f"fatal: unable to opendir info/{part}", error)
        for number in found:
            show(layout, number)
    sys.stdout.buffer.flush()
    return 0


def fail(text: str, error: OSError) -> int:
    sys.stdout.buffer.write(f"{text}: {error_text(error.errno)}\n".encode())
    sys.stdout.buffer.flush()
    return 111


def trouble(number: int, error: OSError) -> None:
    sys.stdout.buffer.write(f"warning: trouble with #{number}: {error_text(error.errno)}\n".encode())


def show(layout: QueueLayout, number: int) -> None:
    """Write the lines of one message."""
    try:
        size = os.stat(layout.mess(number)).st_size
        bouncing = os.path.exists(layout.bounce(number))
        with open(layout.info(number), "rb") as file:
            arrived = int(os.fstat(file.fileno()).st_mtime)
            sender = file.read().partition(b"\0")[0][1:]
    except OSError as error:
        trouble(number, error)
        return
    date = date822(arrived).removesuffix(b" -0000")
    line = b"%b GMT  #%d  %d  <%b> %b" % (date, number, size, sender, b" bouncing" if bouncing else b"")
    out = sys.stdout.buffer
    out.write(line.translate(PRINTABLE) + b"\n")
    for channel, path in ((b"local", layout.local(number)), (b"remote", layout.remote(number))):
        try:
            for recipient in read_channel(path):
                mark = b"  done" if recipient.done else b""
                out.write(b"%b\t%b\t%b\n" % (mark, channel, recipient.address.translate(PRINTABLE)))
        except OSError as error:
            trouble(number, error)
