"""pluq queue list: the messages in the queue, oldest first. pluq queue show NUMBER: one of them, with its header.

    pluq queue list [--home DIR] [--json]
    pluq queue show NUMBER [--home DIR] [--json]

With --json each message is one object on a line: number, sender, size, arrived (seconds since the epoch), state ("todo" before
qmail-send has looked at it, then "queued" or "bouncing"), recipients (address, channel, done). Read as root or a qmail user.
Messages come and go while this reads; one that goes meanwhile is left out.

Exit codes: 0, 1 there is no such message, 111 the queue cannot be read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pluq.commands.qmail_qread import PRINTABLE

if TYPE_CHECKING:
    from pluq.queue.layout import QueueLayout

MISSING = 1
FAILED = 111
# A header is for reading; what is longer is a message without one.
HEADER_BYTES = 65536


def main() -> int:
    import argparse

    from pluq.config import Home
    from pluq.errors import PluqError
    from pluq.queue.layout import QueueLayout

    wants_one = sys.argv[0].endswith("show")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    if wants_one:
        parser.add_argument("number", type=int, help="the number of the message, as in the log")
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--json", action="store_true", help="one JSON object for each message")
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    try:
        layout = QueueLayout(home.queue)
        if not wants_one:
            for message in sorted(messages(layout), key=lambda one: (one["arrived"], one["number"])):
                put(message, options.json)
            return 0
        found = read_message(layout, options.number)
        if found is None:
            sys.stderr.write(f"pluq queue show: no message {options.number}\n")
            return MISSING
        put({**found, "header": read_header(layout, options.number)}, options.json)
    except (OSError, PluqError) as error:
        sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {error}\n")
        return FAILED
    return 0


def messages(layout: QueueLayout) -> Iterator[dict[str, Any]]:
    """Yield each message in the queue once. Raises OSError."""
    from pluq.queue.reader import split_numbers, todo_numbers

    for number in {*split_numbers(layout, "info"), *todo_numbers(layout)}:
        message = read_message(layout, number)
        if message is not None:
            yield message


def read_message(layout: QueueLayout, number: int) -> dict[str, Any] | None:
    """Return what is known of a message; None if it is not, or no longer, in the queue. Raises OSError."""
    from pluq.queue.reader import read_channel, read_info, read_todo

    try:
        size = os.stat(layout.mess(number)).st_size
        try:
            todo = read_todo(layout, number)
        except FileNotFoundError:
            info = read_info(layout, number)
            rows = [
                (one.address, channel, one.done)
                for channel, path in (("local", layout.local(number)), ("remote", layout.remote(number)))
                for one in read_channel(path)
            ]
            state = "bouncing" if os.path.exists(layout.bounce(number)) else "queued"
            return described(number, info.sender, size, info.birth, state, rows)
        arrived = int(os.stat(layout.todo(number)).st_mtime)
        rows = [(address, "", False) for address in todo.recipients]
        return described(number, todo.sender, size, arrived, "todo", rows)
    except FileNotFoundError:
        return None


def described(
    number: int, sender: bytes, size: int, arrived: int, state: str, rows: list[tuple[bytes, str, bool]]
) -> dict[str, Any]:
    recipients = [{"address": text(address), "channel": channel, "done": done} for address, channel, done in rows]
    return {
        "number": number,
        "sender": text(sender),
        "size": size,
        "arrived": arrived,
        "state": state,
        "recipients": recipients,
    }


def read_header(layout: QueueLayout, number: int) -> str:
    """Return the header of a message. Raises OSError."""
    with open(layout.mess(number), "rb") as file:
        header = file.read(HEADER_BYTES).partition(b"\n\n")[0]
    return "\n".join(text(line.translate(PRINTABLE)) for line in header.split(b"\n"))


def text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def put(message: dict[str, Any], as_json: bool) -> None:
    """Write one message."""
    if as_json:
        import json

        sys.stdout.write(json.dumps(message) + "\n")
        return
    import time

    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(message["arrived"]))
    lines = [f"{message['number']}  {when}  {message['size']}  {message['state']}  <{shown(message['sender'])}>"]
    lines += [
        f"    {'done' if one['done'] else '-':<5} {one['channel'] or '?':<7} {shown(one['address'])}"
        for one in message["recipients"]
    ]
    lines += ["", message["header"]] if "header" in message else []
    sys.stdout.write("\n".join(lines) + "\n")


def shown(address: str) -> str:
    return address.encode("utf-8", "backslashreplace").translate(PRINTABLE).decode("ascii")
