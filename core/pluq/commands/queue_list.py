"""pluq queue list: the messages in the queue, oldest first. pluq queue show NUMBER: one of them, with its header.

    pluq queue list [NUMBER]... [--sender PATTERN] [--recipient PATTERN] [--older AGE] [--younger AGE] [--channel C] [--held] [--json]
    pluq queue show NUMBER [--json]

With --json each message is one object on a line: number, sender, size, arrived (seconds since the epoch), state ("todo" before
qmail-send has looked at it, then "queued", "held" or "bouncing"), next_try, recipients (address, channel, done). Read as root or a qmail
user. Messages come and go while this reads; one that goes meanwhile is left out.

Exit codes: 0, 1 there is no such message, 111 the queue cannot be read.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pluq.commands.qmail_qread import PRINTABLE

if TYPE_CHECKING:
    from pluq.queue.layout import QueueLayout
    from pluq.queue.select import Message

MISSING = 1
FAILED = 111
# A header is for reading; what is longer is a message without one.
HEADER_BYTES = 65536


def main() -> int:
    import argparse

    from pluq.commands.help_text import HelpText
    from pluq.commands.queue_options import add_home, add_selection, home_of, number, selection_of
    from pluq.errors import PluqError, in_words
    from pluq.queue.layout import QueueLayout

    wants_one = sys.argv[0].endswith("show")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    if wants_one:
        parser.add_argument("number", type=number, help="the number of the message, as in the log")
    else:
        add_selection(parser)
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object for each message")
    options = parser.parse_args()
    try:
        layout = QueueLayout(home_of(options).queue)
        if wants_one:
            return show(layout, options.number, options.json)
        import time

        from pluq.queue.select import messages

        found = sorted(messages(layout, selection_of(options), time.time()), key=lambda one: (one.arrived, one.number))
        for message in found:
            put(message, options.json)
        if not found and sys.stdout.isatty():
            sys.stdout.write("no message fits\n" if len(sys.argv) > 1 else "the queue is empty\n")
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads on; the interpreter would complain
    except (OSError, PluqError) as error:
        sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {in_words(error)}\n")
        return FAILED
    return 0


def show(layout: QueueLayout, number: int, as_json: bool) -> int:
    """Show one message. Raises OSError, ProtocolError."""
    from pluq.queue.select import read_message

    found = read_message(layout, number)
    if found is None:
        sys.stderr.write(f"pluq queue show: no message {number}\n")
        return MISSING
    put(found, as_json, read_header(layout, number))
    return 0


def read_header(layout: QueueLayout, number: int) -> str:
    """Return the header of a message. Raises OSError."""
    from pluq.queue.select import text

    with open(layout.mess(number), "rb") as file:
        header = file.read(HEADER_BYTES).partition(b"\n\n")[0]
    return "\n".join(text(line.translate(PRINTABLE)) for line in header.split(b"\n"))


def put(message: Message, as_json: bool, header: str | None = None) -> None:
    """Write one message."""
    if as_json:
        import json
        from dataclasses import asdict

        record = {**asdict(message), "recipients": [one._asdict() for one in message.recipients]}
        del record["identity"]
        sys.stdout.write(json.dumps(record if header is None else {**record, "header": header}) + "\n")
        return
    lines = [
        f"{message.number}  {moment(message.arrived)}  {message.size}  {message.state}  <{shown(message.sender)}>",
        *(
            f"    {'done' if one.done else '-':<5} {one.channel or '?':<7} {shown(one.address)}"
            for one in message.recipients
        ),
    ]
    if header is not None:
        lines += [f"    next try {moment(message.next_try)}"] if message.next_try is not None else []
        lines += ["", header]
    sys.stdout.write("\n".join(lines) + "\n")


def moment(seconds: int) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def shown(address: str) -> str:
    return address.encode("utf-8", "backslashreplace").translate(PRINTABLE).decode("ascii")
