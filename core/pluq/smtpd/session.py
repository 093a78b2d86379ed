"""One SMTP session: bytes in, replies out, messages to the queue. The same under tcpserver and in the resident server.

    command lines -> a table of verbs -> replies        DATA -> Incoming until the end of the message -> the queue

The session does no I/O of its own: it is fed, and a driver sends, waits and closes for it. What it does at once it does
without a task; a step that must wait (for a plugin, for the disk) is a coroutine: it is run up to its first real wait, and
only then the driver takes it over, while further input is kept. Replies are collected and sent together, before anything waits.

Without plugins each hook is one attribute that is None, and the replies are those of qmail-smtpd, byte for byte.

Limits of ours, where qmail has none: a line of LINE_BYTES, MAX_RECIPIENTS, MAX_JUNK commands without a recipient or a message,
and a pace: see `seconds_left`.

Source: qmail-smtpd.c, commands.c; RFC 5321.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pluq.errors import ClientGone, ConfigError, ProtocolError
from pluq.hookspecs.context import Session, Tls, Transaction
from pluq.plan import EMPTY
from pluq.smtpd import replies, verbs
from pluq.smtpd.body import StrayNewline
from pluq.smtpd.incoming import Incoming

if TYPE_CHECKING:
    from pluq.hookspecs.verdicts import Defer, Disconnect, Phase, Reject
    from pluq.plan import Plan
    from pluq.queue.submit import Submitter
    from pluq.smtpd.policy import Policy
    from pluq.smtpd.watch import Watch

# RFC 5321 asks for 512 octets, extensions for some hundred more. qmail takes any length: recorded ones have 5000.
LINE_BYTES = 32768
# Whoever says so much without naming one good recipient is no mail client.
MAX_JUNK = 1000
# Who sends more commands at once lets others have their turn after so many, which is what a message takes.
TURN_COMMANDS = 5
# Whoever goes on without mail, or to this many recipients of one message, is slowed down: a flood must not cost a processor.
FREE_JUNK = 50
FREE_RECIPIENTS = 1000
PAUSE_SECONDS = 0.001
# A line or a reply of ours gets at least so long (RFC 5321 section 4.5.3.2 asks for five minutes)...
LINE_SECONDS = 300
# ...and a message comes at this pace on the average, after `timeoutsmtpd` for a start: a drip of octets holds no session for days.
SLOWEST_BYTES_PER_SECOND = 100


class Driver(Protocol):
    """What a session needs from its connection."""

    def send(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""

    def close(self) -> None:
        """Close when everything was sent."""

    def resume(self, coroutine: Coroutine[Any, Any, None], waiting: Any) -> None:
        """Run the rest of a step that waits for `waiting`; then call `resumed` of the session."""

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that outlives the session."""

    def has_unread(self) -> bool:
        """Return whether the client has sent what was not read yet."""

    async def wait_input(self) -> bool:
        """Wait until the session was fed again; False at the end of input."""

    async def breathe(self, seconds: float = 0.0) -> None:
        """Let other sessions go on, in the middle of long work; come back no earlier than in so many seconds."""

    async def start_tls(self, context: Any) -> Tls:
        """Do the server's part of a TLS handshake; what was not encrypted is gone. Raises OSError."""

    def switch(self, read_fd: int, write_fd: int) -> None:
        """Go on with the client on these descriptors. Raises OSError where that cannot be."""


class Service:
    """What all sessions of a profile share: settings, plugins, the way to the queue."""

    __slots__ = (
        "banner",
        "ehlo",
        "has_hooks",
        "helo",
        "is_terse",
        "log",
        "plan",
        "policy",
        "profile",
        "submitter",
        "watch",
    )

    def __init__(
        self,
        policy: Policy,
        plan: Plan,
        submitter: Callable[[Mapping[str, str]], Submitter],
        log: Callable[[str], None],
        profile: str = "stock",
        is_terse: bool = False,
        watch: Watch | None = None,
    ) -> None:
        """`submitter` returns the way to the queue for the environment of a connection (QMAILQUEUE).

        `is_terse`: say nothing but replies where stock qmail-smtpd says nothing; only faults of ours are logged then.
        `watch` hears what was taken and refused, where somebody wants to know.
        """
        self.policy = policy
        self.plan = plan
        self.has_hooks = plan is not EMPTY
        self.submitter = submitter
        self.log = log
        self.profile = profile
        self.is_terse = is_terse
        self.watch = watch
        self.banner = b"220 %s ESMTP\r\n" % policy.greeting
        self.helo = b"250 %s\r\n" % policy.greeting
        self.ehlo = b"250-%s\r\n250-PIPELINING\r\n250 8BITMIME\r\n" % policy.greeting


class SmtpSession:
    """The state of one session. The driver calls `begin`, `feed`, `resumed`, `end_of_input`, `timed_out` and `lost`."""

    __slots__ = (
        "_at",
        "_input",
        "_out",
        "_phase_start",
        "_skipping",
        "barred",
        "busy",
        "committing",
        "driver",
        "ended",
        "eof",
        "fake_helo",
        "first_environment",
        "first_info",
        "incoming",
        "is_bad_sender",
        "is_discarding",
        "is_leaving",
        "junk",
        "last_input",
        "later",
        "refusal",
        "service",
        "session",
        "transaction",
    )

    def __init__(self, driver: Driver, service: Service, session: Session) -> None:
        self.driver = driver
        self.service = service
        self.session = session
        self.transaction: Transaction | None = None
        self.incoming: Incoming | None = None
        self.later: dict[Phase, tuple[Reject | Defer | Disconnect, int]] = {}
        """Verdicts to be shown at a phase, and for how long: see `ask`."""
        self.barred: bytes | None = None
        """The refusal of the connection: what every command hears."""
        self.refusal: bytes | None = None
        """The refusal of HELO: what MAIL hears until a better greeting."""
        self.first_environment: dict[str, str] | None = None
        """What the connection came with: TLS takes it back to this."""
        self.first_info = session.remote_info
        self.is_discarding = False
        """A plugin wants the message of this transaction dropped."""
        self.fake_helo: bytes | None = None
        """The name of HELO, where it is not the client's own."""
        self.busy = False
        """A step waits; input is kept."""
        self.committing = False
        """The queue has the message: that step must not be cancelled."""
        self.eof = False
        self.ended: str | None = None
        self.last_input = self._phase_start = time.monotonic()
        self.is_bad_sender = False
        self.is_leaving = False
        self._input = b""
        self._at = 0
        self._skipping = False
        self.junk = 0
        self._out = b""

    # -- called by the driver

    def begin(self) -> None:
        """Greet."""
        if self.service.has_hooks:
            from pluq.smtpd import ask

            self._step(ask.connect(self))
            self.advance()
            return
        self.driver.send(self.service.banner)

    def greet(self) -> None:
        self.reply(b"220 %s ESMTP\r\n" % self.name)

    @property
    def name(self) -> bytes:
        """What we call ourselves in this session."""
        return self.session.greeting or self.service.policy.greeting

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""
        self.last_input = time.monotonic()
        self._input = self._input[self._at :] + data if self._at < len(self._input) else data
        self._at = 0
        if not self.busy:
            self.advance()

    def resumed(self, error: BaseException | None) -> None:
        """A step that waited has ended."""
        self.busy = False
        if error is not None:
            self._failed(error)
        self.last_input = self._phase_start = time.monotonic()
        self.advance()

    def end_of_input(self) -> None:
        """The client will send no more; what it sent is still answered."""
        self.eof = True
        if not self.busy:
            self.advance()

    def seconds_left(self) -> float:
        """Return how long the client may still take: each silence, and each line or message as a whole, has its limit."""
        now, timeout = time.monotonic(), self.service.policy.timeout
        pace = max(timeout, LINE_SECONDS)
        if self.incoming is not None:
            pace += self.incoming.body.size // SLOWEST_BYTES_PER_SECOND
        return min(self.last_input + timeout, self._phase_start + pace) - now

    def timed_out(self) -> None:
        self.refuse(replies.TIMEOUT)
        self.end("timeout")

    def lost(self) -> None:
        """The connection is gone."""
        self._out = b""
        self.end("lost")

    def go_down(self) -> None:
        """The server stops: a session between messages ends now, any other at the end of its message."""
        self.is_leaving = True
        self.advance()

    # -- input

    def advance(self) -> None:
        """Carry out what has arrived, as far as it goes; then send the replies."""
        commands = 0
        while self._at < len(self._input) and self.ended is None and not self.busy:
            if self.incoming is not None:
                self._receive(self.incoming)
                continue
            try:
                line = self.take_line()
            except ProtocolError:
                self.refuse(replies.LINE_TOO_LONG)
                continue
            if line is None:
                break
            self._phase_start = self.last_input
            self._command(line)
            commands += 1
            if (commands == TURN_COMMANDS or self.junk > FREE_JUNK) and not self.busy and self.ended is None:
                commands = 0
                self._step(self.driver.breathe(PAUSE_SECONDS if self._is_flood() else 0.0))
        if (self.eof or self.is_leaving) and self.ended is None and not self.busy:
            self._leave()
        self.flush()

    def _is_flood(self) -> bool:
        recipients = 0 if self.transaction is None else len(self.transaction.recipients)
        return self.junk > FREE_JUNK or recipients > FREE_RECIPIENTS

    def _leave(self) -> None:
        """End at the end of input, or when the server stops and no message is under way."""
        if self.eof:
            self.end("lost")
        elif self.transaction is None and self.incoming is None:
            self.reply(replies.GOING_DOWN)
            self.end("shutdown")

    def take_line(self) -> bytes | None:
        """Return the next line without its LF, None where it is not there yet.

        Raises ProtocolError for one that is too long, once; its rest will be dropped.
        """
        start = self._at
        end = self._input.find(b"\n", start)
        if end >= 0:
            self._at = end + 1
            if not self._skipping and end - start <= LINE_BYTES:
                return self._input[start:end]
            if not self._skipping:
                raise ProtocolError("line too long")
            self._skipping = False
            return self.take_line() if self._at < len(self._input) else None
        if len(self._input) - self._at > LINE_BYTES:
            is_first, self._skipping = not self._skipping, True
            self._at = len(self._input)
            if is_first:
                raise ProtocolError("line too long")
        return None

    def take(self, count: int) -> bytes:
        """Return up to `count` octets of what has arrived."""
        data = self._input[self._at : self._at + count]
        self._at += len(data)
        return data

    @property
    def waiting_bytes(self) -> int:
        """How much has arrived and was not carried out yet."""
        return len(self._input) - self._at

    def forget(self) -> None:
        """Forget the client's greeting and what was said of it, as before the first one."""
        self.fake_helo = self.refusal = None
        self.later = {phase: kept for phase, kept in self.later.items() if kept[1] == 0}

    def drop_input(self) -> None:
        """Forget what has arrived and was not carried out."""
        self._input, self._at, self._skipping = b"", 0, False

    def _receive(self, incoming: Incoming) -> None:
        data = self._input[self._at :]
        self.drop_input()
        try:
            done = incoming.feed(data)
        except StrayNewline:
            self.refuse(replies.STRAY_NEWLINE)
            self.end("lost")
            return
        if done:
            self._input = incoming.body.rest
            self._phase_start = self.last_input
            self._step(verbs.finish(self, incoming))

    def _command(self, line: bytes) -> None:
        """Carry out one line. Where qmail's strings end, at a NUL, this one ends too."""
        line = line.removesuffix(b"\r")
        if 0 in line:
            line = line[: line.index(0)]
        self.junk += 1
        if self.junk > MAX_JUNK:
            self.refuse(replies.TOO_MUCH_JUNK)
            self.end("refused")
            return
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        argument = argument.lstrip(b" ")
        if self.service.has_hooks:
            from pluq.smtpd import ask

            self._step(ask.command(self, verb, argument, line))
            return
        try:
            pending = verbs.run(self, verb, argument, line)
        except Exception as error:
            self._failed(error)
            return
        if pending is not None:
            self._step(pending)

    def _step(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a step as far as it goes without waiting."""
        try:
            waiting = coroutine.send(None)
        except StopIteration:
            return
        except Exception as error:
            self._failed(error)
            return
        self.flush()
        self.busy = True
        self.driver.resume(coroutine, waiting)

    def _failed(self, error: BaseException) -> None:
        """Answer what nobody else answered: for now, and the session is over, for its state may be anything."""
        if isinstance(error, ConfigError):
            self.refuse(replies.NO_CONTROLS)
            self.log(str(error))
        elif not isinstance(error, ClientGone):
            self.refuse(replies.NO_MEMORY if isinstance(error, MemoryError) else replies.TROUBLE)
            self.service.log(f"{self.session.remote_ip}: {type(error).__name__}: {error}")
        self.end("lost")

    def reset_transaction(self) -> Coroutine[Any, Any, None] | None:
        """Forget the transaction; return what is left to do where plugins want to know."""
        transaction, self.transaction = self.transaction, None
        if transaction is None or not self.service.has_hooks:
            return None
        from pluq.smtpd import ask

        return ask.transaction_end(self, transaction, "reset")

    # -- output

    def log(self, text: str) -> None:
        if not self.service.is_terse:
            self.service.log(f"{self.session.remote_ip}: {text}")

    def reply(self, data: bytes) -> None:
        self._out += data

    def refuse(self, reply: bytes, reason: str = "", recipient: bytes = b"") -> None:
        """Reply that something is refused; `reason` is a word for figures, where the reply alone does not tell."""
        self._out += reply
        if self.service.watch is not None:
            self.service.watch.refused(self, reply, reason, recipient)

    def flush(self) -> None:
        """Send the replies that were given so far."""
        if self._out:
            out, self._out = self._out, b""
            self.driver.send(out)

    def end(self, reason: str) -> None:
        """End the session: send what is to be sent, give up what is unfinished, tell the plugins."""
        if self.ended is not None:
            return
        self.ended = reason
        if self.service.watch is not None:
            self.service.watch.ended(self)
        self.flush()
        self.drop_input()
        transaction = self.transaction
        if self.incoming is not None and not self.committing:
            self.incoming.give_up()
            transaction, self.incoming = self.incoming.transaction, None
        self.transaction = None
        if self.service.has_hooks:
            from pluq.smtpd import ask

            self.driver.background(ask.farewell(self, transaction, reason))
        self.driver.close()
