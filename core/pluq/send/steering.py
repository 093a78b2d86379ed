"""What an administrator does to messages in the queue, carried out by the scheduler in its own turn.

    hold      the time of local/N and remote/N becomes HELD_TIME, and is synced: no try until released, whoever runs qmail-send
    release   the time becomes now
    flush     the same for what is not on hold
    remove    bounce/N, info/N (from here on the message has left the queue), local/N, remote/N, then mess/N
    bounce    every recipient that is not done gets a failure note and is marked done; then the message ends as any other

Of a message that is being tried nothing more is started, and when what is in flight has reported the order is carried out: LATER. A
crash before that forgets the order, and nothing else. Every state on the way is one of qmail's.

Messages are given with their identity: an order for one that has left the queue never meets another one with its number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from pluq import log
from pluq.errors import ProtocolError
from pluq.queue.reader import HELD_TIME, identity
from pluq.send.common import CHANNELS, exists
from pluq.send.jobs import Job
from pluq.send.schedule import SYSTEM_FAILURE_SECONDS
from pluq.send.syncing import SyncBatch
from pluq.wire.steer import Order, Outcome

if TYPE_CHECKING:
    from pluq.send.scheduler import Scheduler

GIVEN_UP = b"The postmaster of this system has given up on this message. (#5.0.0)\n"
LOG_WORDS = {"bounce": "giveup"}  # "bounce msg" is the line about a bounce that was queued
STOPPING = ("hold", "remove", "bounce")
"""What ends a try that is under way."""


class Steering:
    """Carries out orders on the messages of one scheduler.

    While it works on an order, `_taken` holds, of each channel, the messages that were taken from the schedule, with their times;
    what is still there at the end goes back.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._common = scheduler.common
        self._jobs = scheduler.jobs
        self._fresh = scheduler.fresh
        self._preprocessor = scheduler.preprocessor
        self._ending = scheduler.ending
        # Not the scheduler's own: what others wrote in this turn is theirs to sync, and to hear of.
        self._batch = SyncBatch(self._common.layout.path)
        self._text = b""
        self._flying: set[tuple[int, int]] = set()
        self._taken: tuple[dict[int, int], ...] = ({}, {})
        self._timed: list[tuple[int, int]] = []
        """Lists that shall get another time: (message, channel)."""
        self._verbs: dict[str, Callable[[int], Outcome]] = {
            "hold": self._hold,
            "release": self._release,
            "flush": self._flush,
            "remove": self._remove,
            "bounce": self._bounce,
        }

    def obey(self, order: Order, uid: int) -> dict[int, Outcome]:
        """Carry out an order of user `uid`; return the outcome for each message. It holds when the turn has settled."""
        act = self._verbs.get(order.verb)
        if act is None or self._common.leaving:
            return dict.fromkeys(order.messages, Outcome.FAILED)
        outcomes = {number: self._presence(number, wanted) for number, wanted in order.messages.items()}
        present = {number for number, outcome in outcomes.items() if outcome is Outcome.DONE}
        self._text = order.text
        self._timed = []
        self._flying = self._jobs.flying()
        self._taken = tuple(waiting.take(present) for waiting in self._jobs.waiting)
        for number in present:
            outcomes[number] = act(number)
        outcomes.update(dict.fromkeys(self._set_times(order.verb), Outcome.FAILED))
        for waiting, taken in zip(self._jobs.waiting, self._taken, strict=True):
            for number, when in taken.items():
                waiting.add(when, number)
        for number, outcome in outcomes.items():
            if outcome in (Outcome.DONE, Outcome.LATER):
                self._common.log(log.steered(LOG_WORDS.get(order.verb, order.verb), number, uid))
        if order.verb in STOPPING:
            self._stop({number for number in present if outcomes[number] is Outcome.LATER}, order.verb)
        return outcomes

    def _presence(self, number: int, wanted: int) -> Outcome:
        """Say whether this is still the message that the order means: DONE if so."""
        layout = self._common.layout
        try:
            found = identity(layout, number) == wanted and (exists(layout.info(number)) or exists(layout.todo(number)))
        except OSError:
            return Outcome.FAILED
        return Outcome.DONE if found else Outcome.GONE

    def _idle(self, number: int) -> list[int]:
        """Return the channels on which a message waits, or is on hold."""
        return [c for c in CHANNELS if number in self._taken[c] or number in self._jobs.held[c]]

    def _busy(self, number: int) -> set[int]:
        """Return the channels on which a message is being tried."""
        return {c for c in CHANNELS if (number, c) in self._flying} | self._fresh.channels_of(number)

    def _forget(self, number: int, channel: int) -> None:
        """Keep a message out of the schedule of a channel from now on."""
        self._taken[channel].pop(number, None)
        self._jobs.held[channel].discard(number)

    def _follow(self, number: int, channels: Iterable[int], then: Callable[[Job], None]) -> Outcome:
        """Have `then` done with the jobs of a message that are under way."""
        for channel in channels:
            self._jobs.afterwards[number, channel] = then
        return Outcome.LATER

    def _stop(self, numbers: set[int], verb: str) -> None:
        """Start nothing more of what is under way; what has nothing in flight ends at once."""
        self._fresh.stop(numbers, verb == "remove")
        for number in numbers:
            self._jobs.stop(number)

    def _nowhere(self, number: int) -> Outcome:
        """Return the outcome for a message that is neither waiting nor tried: it is about to end, or on its way from todo/."""
        return Outcome.FAILED if self._preprocessor.knows(number) else Outcome.NOTHING

    # hold, release, flush

    def _hold(self, number: int) -> Outcome:
        idle, busy = self._idle(number), self._busy(number)
        self._timed += [(number, channel) for channel in idle if number not in self._jobs.held[channel]]
        if busy:
            return self._follow(number, busy, self._hold_job)
        return Outcome.DONE if idle else self._nowhere(number)

    def _hold_job(self, job: Job) -> None:
        if job.undone or not job.read_whole:
            self._timed = [(job.number, job.channel)]
            if not self._set_times("hold"):
                return
        self._jobs.finish(job)

    def _release(self, number: int) -> Outcome:
        held = [channel for channel in CHANNELS if number in self._jobs.held[channel]]
        self._timed += [(number, channel) for channel in held]
        to_be_held = [c for c in CHANNELS if self._jobs.afterwards.get((number, c)) == self._hold_job]
        for channel in to_be_held:
            del self._jobs.afterwards[number, channel]
        return Outcome.DONE if held or to_be_held else Outcome.NOTHING

    def _set_times(self, verb: str) -> set[int]:
        """Put lists on hold or let them be due, for good; returns the messages for which that failed."""
        timed, self._timed = self._timed, []
        when = HELD_TIME if verb == "hold" else self._common.now
        failed = set()
        for number, channel in timed:
            path = self._common.recipients_path(number, channel)
            try:
                os.utime(path, (when, when))
            except OSError:
                self._common.warn("unable to utime", path)
                failed.add(number)
            else:
                self._batch.add_path(path)
        if timed and not self._batch.commit():
            self._common.log(log.warning("trouble fsyncing the times of messages"))
            failed.update(number for number, _channel in timed)
        for number, channel in timed:
            if number in failed:
                continue
            self._forget(number, channel)
            if verb == "hold":
                self._jobs.held[channel].add(number)
            else:
                self._jobs.waiting[channel].add(when, number)
        return failed

    def _flush(self, number: int) -> Outcome:
        waiting = [channel for channel in CHANNELS if number in self._taken[channel]]
        self._timed += [(number, channel) for channel in waiting]
        if waiting or self._busy(number):
            return Outcome.DONE
        if self._idle(number):
            return Outcome.NOTHING  # on hold
        self._ending.add(number)
        return Outcome.DONE

    # remove

    def _remove(self, number: int) -> Outcome:
        busy = self._busy(number)
        if not busy:
            if self._preprocessor.knows(number):
                return Outcome.FAILED
            return Outcome.DONE if self._discard(number) else Outcome.FAILED
        for channel in self._idle(number):
            self._taken[channel].pop(number, None)  # not to be tried while the other channel ends
        return self._follow(number, busy, self._remove_job)

    def _remove_job(self, job: Job) -> None:
        if any((job.number, channel) in self._jobs.afterwards for channel in CHANNELS):
            return  # The other channel is under way as well.
        if self._discard(job.number):
            return
        for channel in CHANNELS:
            if os.path.lexists(self._common.recipients_path(job.number, channel)):
                self._jobs.waiting[channel].add(self._common.now + SYSTEM_FAILURE_SECONDS, job.number)

    def _discard(self, number: int) -> bool:
        if not self._ending.discard(number):
            return False
        for channel in CHANNELS:
            self._forget(number, channel)
        return True

    # bounce

    def _bounce(self, number: int) -> Outcome:
        idle, busy = self._idle(number), self._busy(number)
        report = GIVEN_UP + (self._text + b"\n" if self._text else b"")
        try:
            for channel in idle:
                self._jobs.give_up(number, channel, report)
                self._forget(number, channel)
        except (OSError, ProtocolError):
            self._common.warn("trouble reading", self._common.relative(self._common.recipients_path(number, channel)))
            return Outcome.FAILED
        if busy:
            return self._follow(number, busy, partial(self._bounce_job, report))
        return Outcome.DONE if idle else self._nowhere(number)

    def _bounce_job(self, report: bytes, job: Job) -> None:
        if job.undone or not job.read_whole:
            try:
                self._jobs.give_up(job.number, job.channel, report)
            except (OSError, ProtocolError):
                pass  # the file is in trouble, of which the next try will tell
            else:
                return
        self._jobs.finish(job)
