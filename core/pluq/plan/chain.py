"""Asking plugins in order: one class a kind of hook.

A plugin that raises, answers with the wrong type or waits longer than its budget has failed. A failure is the end of the
question, and its answer is temporary (451, try again), unless the site said `on_error = "skip"` for that plugin. Cancellation
(the client is gone) is not a failure: it passes through.

The engine steps a session eagerly: outside any task, until something really waits. `asyncio.timeout` needs a task, so the
budget is a timer of its own, armed only when a plugin first waits: it cancels the future that the plugin waits for. A plugin
that answers without waiting costs no timer.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import traceback
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from pluq.errors import ClientGone, ConfigError, TemporaryFailure
from pluq.hookspecs.results import AuthResult
from pluq.hookspecs.verdicts import (
    PLUGIN_FAILED,
    Accept,
    Defer,
    Discard,
    Disconnect,
    Later,
    Reject,
    Verdict,
    clean_text,
)
from pluq.plan.shadow import in_shadow

VERDICTS = (Accept, Reject, Defer, Disconnect, Discard, Later)

# What hooks collect that others read without looking.
ITEMS: Mapping[str, type] = {
    "check": str,
    "message_verify": AuthResult,
    "queue_fields": bytes,
    "remote_explain": str,
    "remote_params": bytes,
    "smtp_capabilities": bytes,
}

# A plain function that takes so many seconds has waited for something, while nobody else was served.
HELD_UP = 0.5
# Hooks of processes that serve many at once.
SHARED = ("smtp_", "message_", "remote_")

Notify = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One plugin's method in one chain."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    parameters: tuple[str, ...]
    waits: bool
    budget: float
    skip_errors: bool
    shadow: bool
    permissions: frozenset[str]


class Budget:
    """Cancels what a plugin waits for when its time is over."""

    __slots__ = ("expired", "waiting")

    def __init__(self) -> None:
        self.expired = False
        self.waiting: Any = None

    def expire(self) -> None:
        self.expired = True
        if self.waiting is not None:
            self.waiting.cancel()


@types.coroutine
def resumed(
    coroutine: Coroutine[Any, Any, Any], waiting: Any, budget: Budget | None = None
) -> Generator[Any, Any, Any]:
    """Return what a coroutine returns that was already stepped to its first wait, on `waiting`.

    Wrapped in a task it is the rest of a coroutine that began outside one. What the task throws (a cancellation, the
    future's exception) reaches the coroutine where it waits.
    """
    try:
        while True:
            if budget is not None:
                budget.waiting = waiting
            try:
                sent = yield waiting
            except BaseException as error:
                waiting = coroutine.throw(error)
            else:
                waiting = coroutine.send(sent)
            if budget is not None and budget.expired:  # it swallowed the cancellation and waits again
                raise TimeoutError
    except StopIteration as finished:
        return finished.value


async def within(coroutine: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Return what the coroutine returns; TimeoutError if it waits for more than `seconds` in all."""
    try:
        waiting = coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    budget = Budget()
    timer = asyncio.get_running_loop().call_later(seconds, budget.expire)
    try:
        return await resumed(coroutine, waiting, budget)
    except asyncio.CancelledError:
        if budget.expired:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
        coroutine.close()


def reason_of(error: Exception, step: Step) -> str:
    """Return why a plugin failed, in words for its author."""
    if isinstance(error, TimeoutError):
        return f"took too long (more than {step.budget:g} s)"
    return told(error, step.hook)


def told(error: Exception, method: str) -> str:
    """Return an error in one line, with the line that it comes from in the file of the plugin's `method`."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = next((code.co_filename for code, _ in frames if code.co_name == method), None)
    lines = [line for code, line in frames if code.co_filename == own]
    where = f" ({os.path.basename(own)}:{lines[-1]})" if own is not None else ""
    return f"{type(error).__name__}: {error}{where}"


class Chain:
    """The steps of one hook. `log` gets one line for each failure; `notify` one event for each verdict and failure."""

    __slots__ = ("log", "notify", "steps")

    def __init__(self, steps: tuple[Step, ...], log: Callable[[str], None], notify: Notify | None = None) -> None:
        self.steps = steps
        self.log = log
        self.notify = notify

    async def ask(self, step: Step, given: Mapping[str, Any]) -> Any:
        """Return the answer of one step; whatever it raises is its failure."""
        if step.shadow:
            given = in_shadow(given)
        began = perf_counter()
        answer = step.function(*[given[name] for name in step.parameters])
        if step.waits:
            return await within(answer, step.budget)
        if perf_counter() - began > HELD_UP and step.hook.startswith(SHARED):
            self.log(
                f"plugin {step.plugin} held up all that its process does in {step.hook}, for {perf_counter() - began:.1f} s: "
                "what waits is async, or in asyncio.to_thread"
            )
        return answer

    async def __call__(self, **given: Any) -> Any:
        """Ask all steps, as the kind of hook wants it."""
        raise NotImplementedError

    def failed(self, step: Step, error: Exception, given: Mapping[str, Any]) -> None:
        """Log a failure; raise TemporaryFailure unless the site lets this plugin be skipped.

        A ConfigError passes as it is: a control file that is there and cannot be read ends a session with 421, as in qmail. So
        does ClientGone, which is nobody's failure.
        """
        if isinstance(error, ClientGone):
            raise error
        reason = reason_of(error, step)
        text = clean_text(f"plugin {step.plugin} failed in {step.hook}: {reason}"[:500]).decode("utf-8", "replace")
        self.log(text + (" (skipped)" if step.skip_errors or step.shadow else ""))
        self.tell_failure(step, reason, given)
        if step.skip_errors or step.shadow:
            return
        if isinstance(error, ConfigError):
            raise error
        raise TemporaryFailure(f"plugin {step.plugin} failed") from error

    def tell_failure(self, step: Step, reason: str, given: Mapping[str, Any]) -> None:
        if self.notify is not None:
            about = {"event": "plugin_error", "plugin": step.plugin, "hook": step.hook, "error": reason}
            self.notify({**about, "given": given})


class Decide(Chain):
    """The first verdict ends. A failure is a verdict too: PLUGIN_FAILED."""

    __slots__ = ()

    async def __call__(self, **given: Any) -> Verdict | None:
        for step in self.steps:
            try:
                verdict = await self.ask(step, given)
                if verdict is None:
                    continue
                check_verdict(step, verdict)
            except Exception as error:
                try:
                    self.failed(step, error, given)
                except TemporaryFailure:
                    return PLUGIN_FAILED
                continue
            self.tell(step, verdict, given)
            if not step.shadow:
                return verdict  # type: ignore[no-any-return]  # check_verdict looked
        return None

    def tell(self, step: Step, verdict: Verdict, given: Mapping[str, Any]) -> None:
        if step.shadow:
            self.log(f"plugin {step.plugin} in {step.hook} would have said {verdict!r}")
        if self.notify is not None:
            self.notify(
                {
                    "event": "verdict",
                    "plugin": step.plugin,
                    "hook": step.hook,
                    "verdict": verdict,
                    "shadow": step.shadow,
                    "given": given,
                }
            )


def check_verdict(step: Step, verdict: Any) -> None:
    """Raise TypeError for what is no verdict, PermissionError for one that the plugin may not give."""
    refuse_others(verdict, VERDICTS)
    if isinstance(verdict, Accept) and verdict.relay and "relay" not in step.permissions:
        raise PermissionError('Accept(relay=True) needs permissions = {"relay"} in the plugin class')


def refuse_others(answer: Any, wanted: tuple[type, ...]) -> None:
    """Raise TypeError, in words for the plugin's author, for an answer of another type."""
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError(f"it returned {answer.__qualname__}() without waiting for it: an await is missing")
    if not isinstance(answer, wanted):
        words = ", ".join(one.__name__ for one in wanted)
        raise TypeError(f"it returned {answer!r}, which is no verdict: None, or one of {words}")


class First(Chain):
    """The first answer that is not None is taken."""

    __slots__ = ()

    async def __call__(self, **given: Any) -> Any:
        for step in self.steps:
            try:
                answer = await self.ask(step, given)
            except Exception as error:
                self.failed(step, error, given)
                continue
            if answer is not None and not step.shadow:
                return answer
        return None


class Fold(Chain):
    """Each answer takes the place of the parameters named in `folded`; the last state is returned."""

    __slots__ = ("folded",)

    def __init__(
        self, steps: tuple[Step, ...], log: Callable[[str], None], notify: Notify | None, folded: tuple[str, ...]
    ) -> None:
        super().__init__(steps, log, notify)
        self.folded = folded

    async def __call__(self, **given: Any) -> Any:
        for step in self.steps:
            try:
                answer = await self.ask(step, given)
            except Exception as error:
                self.failed(step, error, given)
                continue
            if answer is not None and not step.shadow:
                values = (answer,) if len(self.folded) == 1 else answer
                given.update(zip(self.folded, values, strict=True))
        return given[self.folded[0]] if len(self.folded) == 1 else tuple(given[name] for name in self.folded)


class Collect(Chain):
    """All are asked; their answers are joined to one list."""

    __slots__ = ()

    async def __call__(self, **given: Any) -> list[Any]:
        found: list[Any] = []
        for step in self.steps:
            try:
                answer = await self.ask(step, given)
            except Exception as error:
                self.failed(step, error, given)
                continue
            if answer is not None and not step.shadow:
                found.extend(answer)
        return found

    async def ask(self, step: Step, given: Mapping[str, Any]) -> Any:
        """Return the answer; TypeError for one that is no sequence, or has something else in it than the hook collects."""
        answer = await super().ask(step, given)
        if answer is None or step.hook not in ITEMS:
            return answer
        wanted = ITEMS[step.hook]
        if not isinstance(answer, list | tuple) or not all(isinstance(one, wanted) for one in answer):
            raise TypeError(f"it returned {answer!r}, which is no list of {wanted.__name__}")
        return answer


class Each(Chain):
    """All are asked, in order; they change what they were given."""

    __slots__ = ()

    async def __call__(self, **given: Any) -> None:
        for step in self.steps:
            try:
                await self.ask(step, given)
            except Exception as error:
                self.failed(step, error, given)


class Observe(Chain):
    """All are told; a failure is logged and changes nothing."""

    __slots__ = ()

    async def __call__(self, **given: Any) -> None:
        for step in self.steps:
            try:
                await self.ask(step, given)
            except Exception as error:
                self.note(step, error, given)

    def note(self, step: Step, error: Exception, given: Mapping[str, Any]) -> None:
        reason = reason_of(error, step)
        self.tell_failure(step, reason, given)
        self.log(f"plugin {step.plugin} failed in {step.hook}: {reason}")


class Now:
    """A chain of plain functions, asked where the core cannot wait: none of its steps ever does."""

    __slots__ = ("chain",)

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def __call__(self, **given: Any) -> Any:
        asked = self.chain(**given)
        try:
            asked.send(None)
        except StopIteration as answered:
            return answered.value
        finally:
            asked.close()
        raise TypeError("a plain function waited")
