"""pluq queue hold, release, flush, remove, bounce: what becomes of messages in the queue.

    hold      keep them in the queue and do not try to deliver them, until they are released
    release   try them again, from now on
    flush     try them now, and forget that their hosts did not answer lately
    remove    throw them away; nobody is told
    bounce    give up: the sender gets one bounce for all recipients that are not done

Which ones: NUMBERs, or filters; a message has to fit all that are given, and a recipient counts while it is not done. The order is for
the whole message. --all means every message. With `pluq serve` the scheduler carries the order out; without any
qmail-send this program does. What is being delivered at this moment is dealt with as soon as that delivery ends.

Exit codes: 0 done, or nothing to do; 1 no such message, or the order did not apply to any; 111 something failed; 2 usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.queue.layout import QueueLayout
    from pluq.queue.select import Message, Selection
    from pluq.wire.steer import Order, Outcome

MISSING = 1
FAILED = 111
ANSWER_SECONDS = 120.0
WAIT_SECONDS = 10.0
POLL_SECONDS = 0.1
# Tries of what stood in the way of an order for a moment only.
TRIES = 3
TRY_PAUSE_SECONDS = 0.5
# Without a filter these mean the whole queue; the others want --all for that.
HARMLESS = ("release", "flush")
DONE_WORDS = {"hold": "held", "release": "released", "flush": "due now", "remove": "removed", "bounce": "given up"}
NOTHING_WORDS = {
    "hold": "have no recipients left",
    "release": "were not on hold",
    "flush": "are on hold",
    "remove": "could not be removed",
    "bounce": "are bouncing already",
}
# A scheduler of qmail-start holds the lock of the queue, and has no socket.
NO_ORDERS = (
    ", by qmail-start, and takes no orders: stop it first, and start it afterwards. list, show and check work meanwhile;"
    " an ALRM to qmail-send (qmailctl flush) tries everything now"
)
REASON_CHARACTERS = 500
SHOWN_RECIPIENTS = 5

Obey = Callable[["Order"], "dict[int, Outcome]"]


class Refused(Exception):
    """Why this cannot be done, for the administrator."""


def main() -> int:
    import argparse

    from pluq.commands.help_text import HelpText
    from pluq.commands.queue_options import add_home, add_selection, home_of, selection_of
    from pluq.errors import PluqError, in_words
    from pluq.queue.layout import QueueLayout
    from pluq.send.startup import CannotStartError
    from pluq.supervisor.recovery import recover_queue

    verb = sys.argv[0].rpartition(" ")[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    add_selection(parser)
    add_home(parser)
    parser.add_argument("--all", action="store_true", help="every message in the queue")
    parser.add_argument("--dry-run", action="store_true", help="list which messages are meant; do nothing")
    if verb == "bounce":
        parser.add_argument("--reason", metavar="TEXT", default="", help="what the bounce says besides")
    options = parser.parse_args()
    selection = selection_of(options)
    if selection.is_everything and not options.all and verb not in HARMLESS:
        parser.error("which messages? Give numbers or filters, or --all")
    home = home_of(options)
    layout = QueueLayout(home.queue)
    reason = " ".join(getattr(options, "reason", "").split())[:REASON_CHARACTERS].encode("utf-8", "replace")
    try:
        if home.ids().single or os.geteuid() == 0:
            recover_queue(home, home.ids())
        hosts: set[bytes] | None = set() if verb == "flush" and not selection.is_everything else None
        found = select(layout, selection, hosts)
        if options.dry_run:
            return dry_run(found)
        if found and verb == "flush" and selection.channel != "local":
            from pluq.commands.queue_flush import forget_timeouts

            forget_timeouts(home, hosts)
        return Run(home, layout, verb, reason).carry_out(found, selection)
    except CannotStartError as error:
        return complain(verb, f"{error}{NO_ORDERS if 'already running' in str(error) else f' {error.detail}'}")
    except (OSError, PluqError, Refused) as error:
        return complain(verb, in_words(error))


def complain(verb: str, text: str) -> int:
    sys.stderr.write(f"pluq queue {verb}: {text}\n")
    return FAILED


def select(layout: QueueLayout, selection: Selection, hosts: set[bytes] | None = None) -> list[Message]:
    """Return the messages that are meant, oldest first, each with a few recipients. Raises OSError, ProtocolError.

    `hosts` gets the domains that they still have to go to.
    """
    import time
    from dataclasses import replace

    from pluq.queue.select import messages

    found = []
    for message in messages(layout, selection, time.time()):
        if hosts is not None:
            hosts.update(hosts_of(message))
        found.append(replace(message, recipients=message.recipients[:SHOWN_RECIPIENTS]))
    return sorted(found, key=lambda message: (message.arrived, message.number))


def hosts_of(message: Message) -> Iterator[bytes]:
    """Yield the domains that the message still has to go to."""
    for one in message.recipients:
        if one.channel == "remote" and not one.done:
            yield os.fsencode(one.address.rpartition("@")[2].lower())


def dry_run(found: list[Message]) -> int:
    from pluq.commands.queue_list import put

    for message in found:
        put(message, False)
    sys.stdout.write(f"{len(found)} messages; nothing was done\n")
    return 0 if found else MISSING


class Run:
    """One order for some messages."""

    def __init__(self, home: Home, layout: QueueLayout, verb: str, reason: bytes) -> None:
        self._home = home
        self._layout = layout
        self._verb = verb
        self._reason = reason

    def carry_out(self, found: list[Message], selection: Selection) -> int:
        """Do it and tell what became of it; return the exit code."""
        from pluq.wire.steer import Outcome

        if not found:
            sys.stdout.write("no message fits\n")
            return MISSING
        outcomes = self._order({message.number: message.identity for message in found})
        later = [message for message in found if outcomes[message.number] is Outcome.LATER]
        for message in self._wait(later):
            outcomes[message.number] = Outcome.DONE
        counts = {outcome: sum(one is outcome for one in outcomes.values()) for outcome in Outcome}
        for line in self._lines(counts):
            sys.stdout.write(f"{line}\n")
        if counts[Outcome.FAILED]:
            return FAILED
        return 0 if counts[Outcome.DONE] + counts[Outcome.LATER] and len(found) >= len(selection.numbers) else MISSING

    def _lines(self, counts: dict[Outcome, int]) -> Iterator[str]:
        """Yield what became of the order, in words."""
        from pluq.wire.steer import Outcome

        words = {
            Outcome.DONE: DONE_WORDS[self._verb],
            Outcome.LATER: f"being delivered at this moment: {DONE_WORDS[self._verb]} when that ends, if anything is left",
            Outcome.GONE: "had left the queue already",
            Outcome.NOTHING: NOTHING_WORDS[self._verb],
            Outcome.FAILED: "failed; the log of qmail-send says why",
        }
        for outcome, count in counts.items():
            if count:
                yield f"{count} {words[outcome]}"

    def _order(self, wanted: dict[int, int]) -> dict[int, Outcome]:
        """Have it carried out, by the scheduler if one runs."""
        try:
            line = SchedulerLine(self._home)
        except (FileNotFoundError, ConnectionRefusedError):
            return self._without_scheduler(wanted)
        except PermissionError:
            raise Refused("only root may do that") from None
        return self._in_packets(wanted, line.obey)

    def _in_packets(self, wanted: dict[int, int], obey: Obey) -> dict[int, Outcome]:
        """Give the order packet by packet; what fails is tried again: the scheduler may just be busy with the message."""
        import time

        from pluq.wire.steer import Outcome

        outcomes: dict[int, Outcome] = {}
        left = wanted
        for attempt in range(TRIES):
            if attempt:
                time.sleep(TRY_PAUSE_SECONDS)
            for packet in packets(left.items()):
                outcomes.update(self._one_packet(packet, obey))
            left = {number: wanted[number] for number, outcome in outcomes.items() if outcome is Outcome.FAILED}
            if not left:
                break
        return outcomes

    def _one_packet(self, packet: dict[int, int], obey: Obey) -> dict[int, Outcome]:
        from pluq.wire.steer import Order, Outcome

        answer = obey(Order(self._verb, self._reason, packet))
        return {number: answer.get(number, Outcome.FAILED) for number in packet}

    def _without_scheduler(self, wanted: dict[int, int]) -> dict[int, Outcome]:
        """Carry it out here, as the scheduler's user, while its lock keeps a scheduler from starting."""
        from pluq.send.startup import lock_queue
        from pluq.send.stopped import StoppedQueue

        ids = self._home.ids()
        if not ids.single and os.geteuid() != 0:
            raise Refused("only root may do that")
        uid = os.getuid()
        lock_queue(self._home)
        clean = start_clean(self._home)
        if not ids.single:
            become_user(self._home, "qmails")
        queue = StoppedQueue(self._home, clean, 2)
        return self._in_packets(wanted, lambda order: queue.obey(order, uid))

    def _wait(self, later: list[Message]) -> list[Message]:
        """Wait a while for what is under way; return the messages with which all is done."""
        import time

        done: list[Message] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while later and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            states = [(message, self._is_done(message)) for message in later]
            done += [message for message, is_done in states if is_done]
            later = [message for message, is_done in states if not is_done]
        return done

    def _is_done(self, message: Message) -> bool:
        from pluq.queue.select import read_message

        now = read_message(self._layout, message.number)
        if now is None or now.identity != message.identity or self._verb == "flush":
            return True
        if self._verb == "hold":
            return now.state == "held"
        return self._verb == "bounce" and now.state != "todo" and not now.recipients


def packets(items: Iterable[tuple[int, int]]) -> Iterator[dict[int, int]]:
    """Yield messages in packets that the scheduler takes."""
    from itertools import islice

    from pluq.wire.steer import MESSAGES_A_PACKET

    rest = iter(items)
    while packet := dict(islice(rest, MESSAGES_A_PACKET)):
        yield packet


class SchedulerLine:
    """Our connection to the scheduler. One that dies is started again by the supervisor, who holds the socket."""

    def __init__(self, home: Home) -> None:
        """Connect. Raises OSError."""
        self._path = f"{home.run}/send"
        self._connect()

    def _connect(self) -> None:
        import socket

        from pluq.store import unix

        self._sock = unix.connect(self._path, socket.SOCK_SEQPACKET, ANSWER_SECONDS)

    def obey(self, order: Order) -> dict[int, Outcome]:
        """Give one order and wait for the answer. Raises Refused, OSError."""
        import time

        from pluq.wire.steer import decode_answer, encode_order

        packet = encode_order(order)
        for _ in range(TRIES):
            answer = self._ask(packet)
            if answer:
                return decode_answer(answer)
            time.sleep(TRY_PAUSE_SECONDS)
            self._sock.close()
            self._connect()
        raise Refused("the scheduler hangs up; what it did so far holds")

    def _ask(self, packet: bytes) -> bytes:
        """Return the answer, nothing if the scheduler hung up."""
        from pluq.wire.steer import PACKET_BYTES

        try:
            self._sock.sendall(packet)
            return self._sock.recv(PACKET_BYTES)
        except TimeoutError:
            raise Refused("the scheduler does not answer; what it did so far holds") from None
        except (BrokenPipeError, ConnectionResetError):
            return b""


def start_clean(home: Home) -> tuple[int, int]:
    """Start qmail-clean as its user; return our ends of the pipes to and from it."""
    from pluq.commands import qmail_clean

    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    if os.fork() == 0:
        code = FAILED
        try:
            os.close(ours_out)
            os.close(ours_in)
            os.dup2(theirs_in, 0)
            os.dup2(theirs_out, 1)
            if not home.ids().single:
                become_user(home, "qmailq")
            os.environ["PLUQ_HOME"] = home.path
            code = qmail_clean.main()
        finally:
            os._exit(code)
    os.close(theirs_in)
    os.close(theirs_out)
    return ours_out, ours_in


def become_user(home: Home, name: str) -> None:
    from pluq.supervisor.privileges import become, user_identity

    ids = home.ids()
    become(user_identity(ids.uid[name], ids.gid["qmail"]))
