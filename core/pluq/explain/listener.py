"""Listening to the plugins: who was asked in which hook, what it answered, and how long it took.

A plan is compiled with a `Listener` as its watch; every step of every chain is then asked through it, verbs of plugins too. Steps that would hand
the message on (queue_submit, queue_open) are not asked at all: nothing is accepted here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from pluq.hookspecs import Accept, Defer, Disconnect, Later, Message, Reject, Transaction, reply_line
from pluq.plan.chain import Step as HookStep

NOTHING = "no opinion"
INERT = frozenset({"queue_submit", "queue_open"})
# Hooks that change what they are given; what they return is often nothing.
EDITING = frozenset({"message_edit", "message_sign"})
MAX_SHOWN = 100


@dataclass(frozen=True)
class Heard:
    """One call of one plugin.

    `seconds` is the time that it took, `place` the line that enables or sets the plugin, `changes` what it made of the message, in words.
    """

    plugin: str
    hook: str
    answer: Any
    error: BaseException | None
    seconds: float
    shadow: bool = False
    place: str = ""
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"plugin {self.plugin} ({self.hook})"

    @property
    def by(self) -> str:
        return f"{self.name}, {self.place}" if self.place else self.name

    @property
    def reply(self) -> bytes | None:
        """The reply line that this answer asks for, if it asks for one."""
        answer = self.answer.verdict if isinstance(self.answer, Later) else self.answer
        if isinstance(answer, Disconnect):
            answer = answer.reply
        if isinstance(answer, bytes):
            return answer
        return reply_line(answer) if isinstance(answer, Reject | Defer) else None

    def said(self) -> str:
        """Return the answer in words."""
        if self.error is not None:
            return f"failed: {type(self.error).__name__}: {self.error}".rstrip(": ")
        answer = self.answer
        if answer is None or answer in ((), [], {}):
            return f"changes {'; '.join(self.changes)}" if self.changes else NOTHING
        if isinstance(answer, Accept):
            return "takes it, although rcpthosts does not list it" if answer.relay else "accepts"
        word = "would say" if self.shadow else "says"
        if self.reply is not None:
            phase = f" at {answer.phase.value}" if isinstance(answer, Later) else ""
            return f"{word}{phase}: {self.reply.decode('utf-8', 'replace').strip()}"
        if isinstance(answer, list | tuple):
            return f"{word}: {', '.join(shown(one) for one in answer)}"
        return f"{word}: {shown(answer)}"


def shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    method = getattr(value, "method", None)
    return f"{method}={value.result}" if method is not None else str(value)


@dataclass(frozen=True)
class View:
    """What a plugin may change of a message: its fields, its body, who gets it."""

    fields: tuple[bytes, ...] = ()
    body: bytes = b""
    recipients: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> View:
        """Return the view of what a hook was given, by the names of its parameters."""
        message: Message | None = given.get("message")
        transaction: Transaction | None = given.get("transaction")
        recipients = tuple(one.address for one in transaction.recipients) if transaction is not None else ()
        if message is None:
            return cls(recipients=recipients)
        return cls(tuple(message.header()), b"".join(message.body_chunks()), recipients)

    def changes_to(self, now: View) -> Iterator[str]:
        """Yield each difference in words."""
        yield from (f"- {field_shown(one)}" for one in self.fields if one not in now.fields)
        yield from (f"+ {field_shown(one)}" for one in now.fields if one not in self.fields)
        if self.body != now.body:
            yield f"the body: {len(self.body)} bytes to {len(now.body)}"
        if self.recipients != now.recipients:
            yield f"the recipients: {', '.join(shown(one) for one in now.recipients) or 'nobody'}"


def field_shown(raw: bytes) -> str:
    text = " ".join(shown(raw).split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


class Listener:
    """The watch of a plan; `take` gives what was asked since it was last called. `place_of` tells where a plugin was enabled."""

    def __init__(self, place_of: Callable[[str], str]) -> None:
        self._heard: list[Heard] = []
        self.place_of = place_of

    def take(self) -> list[Heard]:
        heard, self._heard = self._heard, []
        return heard

    def __call__(self, step: HookStep) -> HookStep:
        if step.hook == "smtp_verbs":
            return replace(step, function=lambda: self._verbs(step))
        return replace(
            step,
            function=self._listened(step.plugin, step.hook, step.function, step.waits, step.shadow, step.parameters),
        )

    def _verbs(self, step: HookStep) -> Mapping[bytes, Callable[..., Any]]:
        verbs: Mapping[bytes, Callable[..., Any]] = step.function()
        return {
            verb: self._listened(step.plugin, verb.decode("ascii", "replace"), handler, True, False)
            for verb, handler in verbs.items()
        }

    def _listened(
        self,
        plugin: str,
        hook: str,
        function: Callable[..., Any],
        waits: bool,
        shadow: bool,
        parameters: Sequence[str] = (),
    ) -> Callable[..., Any]:
        @contextmanager
        def listening(given: Sequence[Any]) -> Iterator[list[Any]]:
            """Note one call; the block puts the answer into the list."""
            by_name = dict(zip(parameters, given, strict=False)) if hook in EDITING else {}
            before = View.of(by_name)
            answers: list[Any] = []
            fault: BaseException | None = None
            began = time.perf_counter()
            try:
                yield answers
            except BaseException as error:
                fault = error
                raise
            finally:
                seconds = time.perf_counter() - began
                changes = tuple(before.changes_to(View.of(by_name)))
                answer = answers[0] if answers else None
                self._heard.append(Heard(plugin, hook, answer, fault, seconds, shadow, self.place_of(plugin), changes))

        @wraps(function)
        async def ask_waiting(*given: Any) -> Any:
            with listening(given) as answers:
                answers.append(None if hook in INERT else await function(*given))
            return answers[0]

        @wraps(function)
        def ask(*given: Any) -> Any:
            with listening(given) as answers:
                answers.append(None if hook in INERT else function(*given))
            return answers[0]

        return ask_waiting if waits else ask
