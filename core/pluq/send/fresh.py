"""The fast path: messages in S4 that are tried before anything is written about them.

    told of N       "new msg", "info msg"; each recipient waits for room on its channel
    all done        "end msg"; the daemon takes todo/N, then mess/N away: info, local, remote never existed
    else            when the last recipient has reported: info/N, local/N, remote/N are written, D for who is done, and synced;
                    todo/N goes (S5); then failures are noted and the next try is scheduled as for any message

At every moment todo/N is on disk or S5 is, so a crash means at most second deliveries: of the recipients done since the message
was taken up, which is why a message for many recipients is preprocessed first and check-pointed one by one.

The todo file of a finished message stays for a moment until the daemon has taken it away. Until it answers a question that was
asked later, such a message is remembered, or a look into todo/ in that moment would deliver it again, and write files for a number
that may belong to another message by then. Whoever is in doubt looks into todo/ once more, after the answer.

Source: INTERNALS sections 2 and 5.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from pluq import log
from pluq.queue.records import Todo
from pluq.send.channel import Channel, Delivery
from pluq.send.common import CHANNELS, Common
from pluq.send.jobs import Job, Jobs
from pluq.send.remover import Remover
from pluq.send.schedule import SYSTEM_FAILURE_SECONDS, Waiting
from pluq.send.todo import Preprocessed, Preprocessor

RECIPIENTS_MAX = 16
"""A crash repeats at most so many deliveries of one message."""
WAITING_MAX = 10_000
"""Recipients that wait on one channel in memory, about 10 MB; beyond, messages are preprocessed to disk."""
ASK_SECONDS = 1
"""How often the daemon is asked whether it has removed what was finished, at most."""


class Fresh:
    """One message on the fast path. `done` has a 1 for each recipient that is done, `failures` why others never will be."""

    __slots__ = (
        "birth",
        "done",
        "failures",
        "found",
        "last_try",
        "left",
        "number",
        "owner",
        "recipients",
        "sender",
        "undone",
    )

    def __init__(
        self, owner: FastPath, number: int, sender: bytes, recipients: list[tuple[int, bytes]], found: bool
    ) -> None:
        count = len(recipients)
        self.owner = owner
        self.number = number
        self.sender = sender
        self.birth = owner.common.now
        self.recipients = recipients
        self.done = bytearray(count)
        self.failures: dict[int, bytes] | None = None
        self.left = count
        """Recipients that have not reported."""
        self.undone = count
        self.last_try = False
        self.found = found
        """It was found in todo/; the daemon may still tell of it."""

    def reported(self, delivery: Delivery, outcome: bytes, text: bytes) -> None:
        if outcome == b"K":
            self.done[delivery.mark] = 1
            self.undone -= 1
        elif outcome == b"D":
            self.failures = {**(self.failures or {}), delivery.mark: text}
        self.left -= 1
        if not self.left:
            self.owner.tried(self)


class FastPath:
    """All messages in S4 that the scheduler works on."""

    def __init__(
        self, common: Common, jobs: Jobs, preprocessor: Preprocessor, remover: Remover, look_again: Callable[[], None]
    ) -> None:
        self.common = common
        self._jobs = jobs
        self._preprocessor = preprocessor
        self._remover = remover
        self._look_again = look_again
        self._messages: dict[int, Fresh] = {}
        self._waiting: tuple[deque[tuple[Fresh, int]], ...] = tuple(deque() for _ in CHANNELS)
        self._to_write: list[Fresh] = []
        self._again = Waiting()
        self._ended: dict[int, bool] = {}
        """Messages whose todo file may still be there; true for those that were found in todo/."""
        self._asked: dict[int, bool] | None = None
        """The same before the question that the daemon has not answered yet."""
        self._ask_at = 0
        self._in_doubt = False
        self._unwanted: set[int] = set()
        """Messages that the administrator removed: they end as soon as nothing of them is in flight."""

    # New messages

    def is_known(self, number: int, found: bool) -> bool:
        """Say whether a todo file is no new message. `found`: it was seen in todo/, else the daemon told of it just now."""
        if number in self._messages:
            return True
        for ended in (self._ended, self._asked or {}):
            # Of one that it told of, the daemon tells again only when the number has a new message. Of one that was found in
            # todo/ it may be telling late.
            if found or ended.get(number, False):
                if number in ended:
                    self._in_doubt = True
                    return True
            else:
                ended.pop(number, None)
        return False

    def reconnected(self, still_to_tell: set[int]) -> None:
        """A new connection to the daemon begins. What the last one did not do is found in todo/ and delivered again."""
        ended = {**(self._asked or {}), **self._ended}
        self._ended = {number: found for number, found in ended.items() if number in still_to_tell}
        self._asked = {} if self._asked is not None else None

    def take(self, number: int, size: int, todo: Todo, found: bool) -> bool:
        """Take up a message of `size` bytes. False: it is not for the fast path, and must be preprocessed."""
        common = self.common
        if len(todo.recipients) > RECIPIENTS_MAX or self._is_half_preprocessed(number, found):
            return False
        route = common.settings.routing.route
        routed = [route(recipient) for recipient in todo.recipients]
        waiting = self._waiting
        for channel, _address in routed:
            if len(waiting[channel]) >= WAITING_MAX:
                return False
        common.log(log.new_message(number))
        common.log(log.info(number, size, todo.sender, todo.pid, todo.uid))
        message = Fresh(self, number, todo.sender, routed, found)
        self._messages[number] = message
        for mark, (channel, _address) in enumerate(routed):
            waiting[channel].append((message, mark))
        if not routed:
            self.tried(message)
        return True

    def _is_half_preprocessed(self, number: int, found: bool) -> bool:
        """Say whether there are files beside todo/N, of a scheduler that died or of ours. They would outlive the message if it ended here."""
        if not (found or self._preprocessor.has_begun(number)):
            return False  # nobody but us has seen it
        layout = self.common.layout
        paths = (layout.info(number), *(self.common.recipients_path(number, channel) for channel in CHANNELS))
        return any(os.path.lexists(path) for path in paths)

    def start_next(self, channel: Channel) -> bool:
        """Start one delivery on a channel that has room; False when nobody waits."""
        waiting = self._waiting[channel.index]
        if not waiting:
            return False
        message, mark = waiting.popleft()
        self.common.start(channel, message, mark, message.recipients[mark][1])
        return True

    # Tried messages

    def tried(self, message: Fresh) -> None:
        """Every recipient has been tried once: the message ends, or what is left of it goes to disk."""
        if message.undone and message.number not in self._unwanted:
            self._to_write.append(message)
            return
        if self._jobs.afterwards:
            for channel in CHANNELS:
                self._jobs.afterwards.pop((message.number, channel), None)
        self.common.log(log.end_message(message.number))
        self._forget(message)
        self._remover.remove_message(message.number)

    def _forget(self, message: Fresh) -> None:
        del self._messages[message.number]
        self._unwanted.discard(message.number)
        self._ended[message.number] = message.found

    def channels_of(self, number: int) -> set[int]:
        """Return the channels of a message that is on the fast path, none for another."""
        message = self._messages.get(number)
        return set() if message is None else {channel for channel, _address in message.recipients}

    def stop(self, numbers: set[int], unwanted: bool) -> None:
        """Start no more deliveries of these messages: whoever was not tried has to wait. `unwanted` ones end instead."""
        known = {number for number in numbers if number in self._messages}
        if unwanted:
            self._unwanted |= known
        else:
            self._unwanted -= known
        stopped = []
        for waiting in self._waiting:
            stopped += [message for message, _mark in waiting if message.number in known]
            kept = [entry for entry in waiting if entry[0].number not in known]
            waiting.clear()
            waiting.extend(kept)
        for message in stopped:
            message.left -= 1
            if not message.left:
                self.tried(message)

    def leave(self) -> None:
        """Start nothing more. Messages that nobody tried stay in todo/; what is known of the others goes to disk."""
        for waiting in self._waiting:
            for message, _mark in waiting:
                message.left -= 1
                if message.left:
                    continue
                if message.undone < len(message.recipients) or message.failures:
                    self.tried(message)
                else:
                    del self._messages[message.number]
            waiting.clear()

    def all_now(self) -> None:
        """Write down now what could not be written before."""
        self._again.all_at(self.common.now)

    def clock_set_back(self) -> None:
        """End the pauses. Without its question a message of the same number as one that ended would count as that one for so long."""
        self._ask_at = self.common.now
        self.all_now()

    # The end of a turn

    @property
    def settled(self) -> bool:
        return not self._to_write

    def wake_at(self) -> int | None:
        if self._ended and self._asked is None:
            return self._ask_at
        return self._again.first()

    def settle(self) -> None:
        """Write down the messages that were not all done, and ask after those that were."""
        while (number := self._again.pop_due(self.common.now)) is not None:
            self._to_write.append(self._messages[number])
        messages, self._to_write = self._to_write, []
        for message in messages:
            self._write(message)
        if self._ended and self._asked is None and self._ask_at <= self.common.now:
            self._ask_at = self.common.now + ASK_SECONDS
            self._asked, self._ended = self._ended, {}
            self._remover.ask(self._answered)

    def _answered(self) -> None:
        """The todo files of all that was finished before the question are gone."""
        self._asked = None
        if self._in_doubt:
            self._in_doubt = False
            self._look_again()

    def _write(self, message: Fresh) -> None:
        def finished(written: Preprocessed | None) -> None:
            if written is None:
                self._again.add(self.common.now + SYSTEM_FAILURE_SECONDS, message.number)
            else:
                self._forget(message)
                self._go_on(message, written)

        self._preprocessor.write(
            message.number, message.sender, message.birth, message.recipients, message.done, finished
        )

    def _go_on(self, message: Fresh, written: Preprocessed) -> None:
        """Treat a message that is in S5 now as if its recipients had been tried there."""
        failures = message.failures or {}
        for channel, offsets in written.offsets.items():
            job = Job(self._jobs, message.number, channel, message.sender, message.birth)
            job.read_whole = True
            for mark, offset in offsets:
                if message.done[mark]:
                    continue
                job.undone += 1
                if mark in failures:
                    job.references += 1
                    self._jobs.failed(job, offset, message.recipients[mark][1], failures[mark])
            self._jobs.close(job)
