r"""An SMTP session without sockets, a queue that remembers, and dialogue files.

    talk = Talk(environment={"RELAYCLIENT": ""})
    assert talk.say("MAIL FROM:<a@b>") == "250 ok"
    talk.send(b"RCPT TO:<c@d>\r\nDATA\r\nSubject: hi\r\n\r\nhello\r\n.\r\n")
    assert talk.queue.messages[0].recipients == [b"c@d"]

A plan whose hooks wait needs a running event loop: use `await talk.settled()` after `send`, or `await talk.ask(line)`.

A dialogue file has one line a step. `C:` the client sends (with CRLF; \r \n \0 and \xNN are those octets), `S:` the server must have
said next, `Q:` the envelope that must have been queued next (sender, then recipients, with blanks between).
`<TIME>` and `<QP>` stand for numbers; `E: NAME=value`, `K: control-file line` before the first step set the scene.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pluq.hookspecs import Session
from pluq.plan import EMPTY, Plan
from pluq.queue.refusal import QueueRefusal, Receipt
from pluq.smtpd.offline import OfflineDriver, blur, client_line
from pluq.smtpd.policy import Policy, RcptHosts
from pluq.smtpd.session import Service, SmtpSession

__all__ = [
    "Dialogue",
    "MemoryQueue",
    "MemorySubmission",
    "MemorySubmitter",
    "Queued",
    "Talk",
    "TalkDriver",
    "blur",
    "client_bytes",
    "default_policy",
    "finish_now",
    "parse_dialogue",
    "text_of",
]


@dataclass
class Queued:
    """One message as the queue got it; `message` without our own Received field is `text`."""

    message: bytes
    sender: bytes
    recipients: list[bytes]
    environment: Mapping[str, str]

    @property
    def text(self) -> bytes:
        """The message as the client sent it, without the Received field that we put on top."""
        lines = self.message.split(b"\n")
        start = next((index for index, line in enumerate(lines) if line.startswith(b"Received: ")), None)
        return self.message if start is None else b"\n".join(lines[:start] + lines[start + 2 :])


@dataclass
class MemoryQueue:
    """A queue in memory. `refusal` is raised at the next commits, `open_error` when a message is begun."""

    messages: list[Queued] = field(default_factory=list)
    refusal: QueueRefusal | None = None
    open_error: Exception | None = None
    write_error: Exception | None = None
    aborted: int = 0
    waits: bool = False
    """Commits wait for the event loop, as those of a disk do."""

    def submitter(self, environment: Mapping[str, str]) -> MemorySubmitter:
        return MemorySubmitter(self, environment)


@dataclass
class MemorySubmitter:
    queue: MemoryQueue
    environment: Mapping[str, str]

    async def open(self) -> MemorySubmission:
        if self.queue.open_error is not None:
            raise self.queue.open_error
        return MemorySubmission(self.queue, self.environment)


@dataclass
class MemorySubmission:
    queue: MemoryQueue
    environment: Mapping[str, str]
    pieces: list[bytes] = field(default_factory=list)

    def write(self, chunk: bytes) -> None:
        if self.queue.write_error is not None:
            raise self.queue.write_error
        self.pieces.append(chunk)

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        if self.queue.waits:
            await asyncio.sleep(0)
        if self.queue.refusal is not None:
            raise self.queue.refusal
        self.queue.messages.append(Queued(b"".join(self.pieces), sender, list(recipients), dict(self.environment)))
        return Receipt(len(self.queue.messages))

    def abort(self) -> None:
        self.queue.aborted += 1


def default_policy(**changes: Any) -> Policy:
    """Return a policy of mx.example.org, which takes mail for example.org."""
    values: dict[str, Any] = {"greeting": b"mx.example.org", "rcpthosts": RcptHosts(frozenset([b"example.org"]))}
    return Policy(**(values | changes))


class TalkDriver(OfflineDriver):
    """The driver of a Talk: it needs no event loop where nothing waits, and remembers what it was switched to."""

    def __init__(self) -> None:
        super().__init__()
        self.switched: tuple[int, int] | None = None

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            finish_now(work)
        else:
            super().background(work)

    def switch(self, read_fd: int, write_fd: int) -> None:
        """The test's own client goes on; the descriptors are remembered."""
        self.switched = (read_fd, write_fd)


def finish_now(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end what has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("this needs a running event loop")


class Talk:
    """A session and its client. `said` is all that the server has sent."""

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        plan: Plan = EMPTY,
        environment: Mapping[str, str] | None = None,
        queue: MemoryQueue | None = None,
        log: Callable[[str], None] | None = None,
        **session: Any,
    ) -> None:
        if not isinstance(plan, Plan):
            raise TypeError(f"plan= is a plan, not {plan!r}: plan=plan_of(make_plugin(...))")
        self.queue = queue or MemoryQueue()
        self.logged: list[str] = []
        self.driver = TalkDriver()
        self._read = 0
        service = Service(policy or default_policy(), plan, self.queue.submitter, log or self.logged.append)
        given: dict[str, Any] = {"remote_ip": "192.0.2.7", "local_host": "mx.example.org", **session}
        self.session = Session(environment=dict(environment or {}), **given)
        self.smtp = SmtpSession(self.driver, service, self.session)
        self.driver.resumed = self.smtp.resumed
        self.smtp.begin()

    @property
    def said(self) -> bytes:
        return self.driver.said

    @property
    def is_closed(self) -> bool:
        return self.driver.is_closed

    def read(self) -> bytes:
        """Return what the server has sent since the last call."""
        data = self.said[self._read :]
        self._read = len(self.said)
        return data

    def send(self, data: bytes) -> bytes:
        """Send bytes; return what the server says to them at once."""
        if not isinstance(data, bytes):
            raise TypeError(f"send() sends bytes as they are, not {data!r}; say() sends a line of text")
        self.read()
        self._feed(data)
        return self.read()

    def say(self, line: str) -> str:
        """Send a line; return the reply without its last line end."""
        return text_of(self.send(line.encode("utf-8", "surrogateescape") + b"\r\n"))

    async def ask(self, line: str) -> str:
        """Send a line and wait until all of it is carried out; return the reply."""
        self.read()
        self._feed(line.encode("utf-8", "surrogateescape") + b"\r\n")
        await self.settled()
        return text_of(self.read())

    async def settled(self) -> None:
        """Wait until the session waits for its client, or has ended with all that follows."""
        await self.driver.settled()

    def hang_up(self) -> None:
        """The client closes its side."""
        self.smtp.end_of_input()
        self.driver.wake(False)

    def _feed(self, data: bytes) -> None:
        self.smtp.feed(data)
        self.driver.wake(True)


def text_of(reply: bytes) -> str:
    return reply.decode("utf-8", "replace").rstrip("\r\n")


# -- dialogue files


@dataclass
class Dialogue:
    """A dialogue file: steps of (letter, text), with what sets the scene taken out."""

    steps: list[tuple[str, str]]
    environment: dict[str, str]
    controls: dict[str, str]


def parse_dialogue(text: str) -> Dialogue:
    """Return the dialogue in a file. Raises ValueError for a line that is none of the known forms."""
    found = Dialogue([], {}, {})
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        letter, colon, rest = line[:1], line[1:2], line[2:].removeprefix(" ")
        if colon != ":" or letter not in "CSQEK":
            raise ValueError(f"line {number}: {line!r}")
        if letter == "E":
            name, _, value = rest.partition("=")
            found.environment[name] = value
        elif letter == "K":
            name, _, value = rest.partition(" ")
            found.controls[name] = found.controls.get(name, "") + value + "\n"
        else:
            found.steps.append((letter, rest))
    return found


def client_bytes(text: str) -> bytes:
    """Return what a C: line sends: its escapes as octets, and CRLF."""
    return client_line(text) + b"\r\n"
