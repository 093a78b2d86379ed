"""Messages that were preprocessed (S5) and have recipients left: which are due, and what becomes of each delivery.

    waiting      local/N or remote/N exists and has a time
    pass         its file is being read: each T record becomes a delivery when there is room
    job          the deliveries of one pass; the last one decides
                   all D: the file goes; when neither channel has one left, the message ends
                   else:  the file gets the time of the next try, and waits again

A failure note is synced before its recipient is marked D: a lost note would lose the mail without a word to anybody. The time
of the next try is written when it is known, so a scheduler that was killed goes on with its schedule.

Source: qmail-send(8); the PRIORITY QUEUES, JOBS and PASSES parts of qmail-send.c; INTERNALS section 5.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pluq import log
from pluq.errors import ProtocolError
from pluq.queue.reader import read_info
from pluq.send import recipients
from pluq.send.bounces import Bounces
from pluq.send.channel import Channel, Delivery
from pluq.send.common import CHANNELS, Common, exists
from pluq.send.ending import Ending
from pluq.send.recipients import Records
from pluq.send.schedule import SYSTEM_FAILURE_SECONDS, Waiting, is_last_try, next_try

RETRY_NOTE_SECONDS = 10
SLIGHT_SECONDS = 60
"""So much longer a message may wait when the clock is set back: writing the times of all anew is not worth it."""


class Job:
    """The recipients of one message on one channel that are being tried now. `references`: its deliveries, and its pass."""

    __slots__ = (
        "birth",
        "channel",
        "last_try",
        "number",
        "owner",
        "read_whole",
        "references",
        "retry",
        "sender",
        "undone",
    )

    def __init__(self, owner: Jobs, number: int, channel: int, sender: bytes, birth: int) -> None:
        now = owner.common.now
        self.owner = owner
        self.number = number
        self.channel = channel
        self.sender = sender
        self.birth = birth
        self.retry = self.next_try(now)
        self.last_try = is_last_try(birth, now, owner.common.settings.lifetime)
        self.references = 1
        self.undone = 0
        self.read_whole = False

    def next_try(self, now: int) -> int:
        """Return when to try again, as seen from `now`. A birth that lies ahead is of a clock that was set back: such a message is as good as new."""
        return next_try(min(self.birth, now), now, self.channel)

    def reported(self, delivery: Delivery, outcome: bytes, text: bytes) -> None:
        if outcome == b"D":
            self.owner.failed(self, delivery.mark, delivery.recipient, text)
            return
        if outcome == b"K":
            self.owner.mark_done(self, delivery.mark)
        self.owner.close(self)


class Jobs:
    """All messages in S5 that have recipients."""

    def __init__(self, common: Common, bounces: Bounces, ending: Ending) -> None:
        self.common = common
        self.waiting = (Waiting(), Waiting())
        self.held: tuple[set[int], set[int]] = (set(), set())
        """Messages on hold, of each channel: on disk, the time of their lists is HELD_TIME."""
        self.afterwards: dict[tuple[int, int], Callable[[Job], None]] = {}
        """What to do in the place of `finish` with a job (message, channel) that is under way, when it ends."""
        self._bounces = bounces
        self._ending = ending
        self._passes: list[tuple[Job, Records] | None] = [None, None]
        self._failures: list[tuple[Job, int, bytes, bytes]] = []
        self._failures_retry = 0

    def all_now(self) -> None:
        """Let every waiting message be due: ALRM."""
        for waiting in self.waiting:
            waiting.all_at(self.common.now)

    def clock_set_back(self, seconds: int) -> None:
        """End the pause after notes that could not be written. Messages wait as long as they would have, also for the next scheduler."""
        self._failures_retry = self.common.now
        if seconds > SLIGHT_SECONDS:
            for waiting in self.waiting:
                waiting.shift(-seconds)
            self.save()

    def wake_at(self) -> int | None:
        """Return when there is something to do without anybody calling."""
        times = [self._failures_retry] if self._failures else []
        if not self.common.leaving:
            due = [self._due(channel.index) for channel in self.common.channels if channel.has_room()]
            times += [when for when in due if when is not None]
        return min(times, default=None)

    def _due(self, channel: int) -> int | None:
        """Return when the next delivery of a channel is due."""
        return self.common.now if self._passes[channel] else self.waiting[channel].first()

    def save(self) -> None:
        """Write the times of all that waits to their files, for the next start."""
        for channel in CHANNELS:
            for when, number in self.waiting[channel]:
                self._set_time(self.common.recipients_path(number, channel), when)

    # Deliveries

    def start_next(self, channel: Channel) -> bool:
        """Start one delivery on a channel that has room; False when nothing is due."""
        while (current := self._passes[channel.index] or self._open(channel.index)) is not None:
            job, records = current
            try:
                found = records.next()
            except (OSError, ProtocolError):
                path = self.common.recipients_path(job.number, job.channel)
                self.common.warn("trouble reading", path, "; will try again later")
                self._end_pass(job, records)
                continue
            if found is None:
                job.read_whole = True
                self._end_pass(job, records)
            elif found[1][:1] == b"T":
                job.undone += 1
                job.references += 1
                self.common.start(channel, job, found[0], found[1][1:])
                return True
            elif found[1][:1] != b"D":
                path = self.common.relative(self.common.recipients_path(job.number, job.channel))
                self.common.log(log.warning(f"unknown record type in {path}!"))
                self._end_pass(job, records)
        return False

    def _open(self, channel: int) -> tuple[Job, Records] | None:
        """Begin the pass of the next message that is due on a channel. None when there is none."""
        while (number := self.waiting[channel].pop_due(self.common.now)) is not None:
            path = self.common.recipients_path(number, channel)
            try:
                records = Records(path)
            except FileNotFoundError:
                # Somebody took it away. Whether anything else is left of the message is for its end to find out.
                self._ending.add(number)
                continue
            except OSError:
                self._open_later(number, channel, path)
                continue
            try:
                sender, birth = read_info(self.common.layout, number)
            except (OSError, ProtocolError):
                records.close()
                self._open_later(number, channel, self.common.layout.info(number))
                continue
            current = (Job(self, number, channel, sender, birth), records)
            self._passes[channel] = current
            return current
        return None

    def _open_later(self, number: int, channel: int, path: str) -> None:
        self.common.warn("trouble opening", path, "; will try again later")
        self.waiting[channel].add(self.common.now + SYSTEM_FAILURE_SECONDS, number)

    def _end_pass(self, job: Job, records: Records) -> None:
        self._passes[job.channel] = None
        records.close()
        self.close(job)

    # Outcomes

    def mark_done(self, job: Job, offset: int) -> None:
        """Write D over the T of a recipient."""
        job.undone -= 1
        path = self.common.recipients_path(job.number, job.channel)
        try:
            recipients.mark_done(path, offset)
        except OSError:
            self.common.warn("trouble marking", path, "; message will be delivered twice!")

    def failed(self, job: Job, offset: int, recipient: bytes, text: bytes) -> None:
        """Take note of a permanent failure. It is written down, synced and marked at the end of the turn."""
        self._failures.append((job, offset, recipient, text))

    def close(self, job: Job) -> None:
        """Let go of a job; the last one to do so decides what becomes of the message on this channel."""
        job.references -= 1
        if job.references:
            return
        then = self.afterwards.pop((job.number, job.channel), None) if self.afterwards else None
        if then is not None:
            then(job)
        else:
            self.finish(job)

    def finish(self, job: Job) -> None:
        """End a job that nobody holds: its recipients are done, or are tried again later."""
        path = self.common.recipients_path(job.number, job.channel)
        # Later than from now on only by a clock that was set back since the job began.
        when = min(job.retry, job.next_try(self.common.now))
        if job.read_whole and not job.undone:
            try:
                os.unlink(path)
            except OSError:
                self.common.warn("unable to unlink", path, "; will try again later")
                when = self.common.now + SYSTEM_FAILURE_SECONDS
            else:
                self._channel_done(job)
                return
        self._set_time(path, when)
        self.waiting[job.channel].add(when, job.number)

    def flying(self) -> set[tuple[int, int]]:
        """Return the jobs, as (message, channel), that are under way."""
        found = {(number, channel.index) for channel in self.common.channels for number in channel.messages()}
        found.update((current[0].number, current[0].channel) for current in self._passes if current is not None)
        found.update((job.number, job.channel) for job, *_rest in self._failures)
        return found

    def stop(self, number: int) -> None:
        """Start no more deliveries of a message in this try of it."""
        for current in self._passes:
            if current is not None and current[0].number == number:
                self._end_pass(*current)

    def give_up(self, number: int, channel: int, text: bytes) -> None:
        """Let every recipient that is not done fail, with `text` as the report. Raises OSError, ProtocolError."""
        records = Records(self.common.recipients_path(number, channel))
        try:
            sender, birth = read_info(self.common.layout, number)
            waiting = [found for found in iter(records.next, None) if found[1][:1] == b"T"]
        finally:
            records.close()
        job = Job(self, number, channel, sender, birth)
        job.read_whole = True
        job.undone = len(waiting)
        job.references += len(waiting)
        for offset, record in waiting:
            self.failed(job, offset, record[1:], text)
        self.close(job)

    def _set_time(self, path: str, when: int) -> None:
        try:
            os.utime(path, (when, when))
        except OSError:
            self.common.warn("unable to utime", path, "; message will be retried too soon")

    def _channel_done(self, job: Job) -> None:
        """The recipients of one channel are done: so is the message, when the other channel has none."""
        path = self.common.recipients_path(job.number, 1 - job.channel)
        try:
            if exists(path):
                return
        except OSError:
            self.common.warn("unable to stat", path)
        self._ending.add(job.number)

    # The end of a turn

    @property
    def settled(self) -> bool:
        return not self._failures

    def settle(self) -> None:
        """Write down this turn's permanent failures, in the order that survives a crash."""
        failures = self._failures
        if not failures or self._failures_retry > self.common.now:
            return
        noted = self._bounces.note([(job.number, recipient, text) for job, _offset, recipient, text in failures])
        self._failures = [failure for failure in failures if failure[0].number not in noted]
        if self._failures:
            self.common.log(log.alert("unable to append to bounce message; HELP! sleeping..."))
            self._failures_retry = self.common.now + RETRY_NOTE_SECONDS
        for job, offset, _recipient, _text in failures:
            if job.number in noted:
                self.mark_done(job, offset)
                self.close(job)
