"""What is told, and counted, of plugins: verdicts and failures as objects in the log, calls and their time as figures.

A plan has a heed only where the site wants objects or figures; else its steps are the plugins' own methods.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

from pluq import log
from pluq.hookspecs import Accept, Defer, Delivery, Discard, Disconnect, Later, Recipient, Reject, Session, Transaction
from pluq.metrics import Page, page, series
from pluq.plan.chain import Step

NAMES = {
    Accept: "accept",
    Reject: "reject",
    Defer: "defer",
    Disconnect: "disconnect",
    Discard: "discard",
    Later: "later",
}
"""What a verdict is called."""


class Heed:
    """Hears of the plugins of one profile or role in this process."""

    def __init__(self, role: str, profile: str, mine: Page | None) -> None:
        self._role = role
        self._labels = {"role": role, "profile": profile}
        self._page = mine

    @classmethod
    def of(cls, role: str, profile: str) -> Heed | None:
        """Return a heed, None where nobody wants to know."""
        mine = page()
        return cls(role, profile, mine) if mine is not None or log.with_objects else None

    def timed(self, step: Step) -> Step:
        """Return the step with its calls counted."""
        if self._page is None:
            return step
        labels = {**self._labels, "plugin": step.plugin, "hook": step.hook}
        calls = self._page.slot(series("pluq_plugin_calls_total", **labels))
        seconds = self._page.slot(series("pluq_plugin_seconds_total", **labels))
        wrap = _timed_coroutine if step.waits else _timed
        return replace(step, function=wrap(step.function, self._page.values, calls, seconds))

    def notice(self, event: Mapping[str, Any]) -> None:
        """Hear an event of a chain: a verdict, or a failure."""
        if event["event"] == "verdict":
            self._verdict(event)
        else:
            self._count("pluq_plugin_failures_total", event)
            self._tell(event, error=event["error"])

    def _verdict(self, event: Mapping[str, Any]) -> None:
        verdict, shadow = event["verdict"], event["shadow"]
        name = NAMES.get(type(verdict), "other")
        self._count("pluq_plugin_verdicts_total", event, verdict=f"shadow-{name}" if shadow else name)
        said = verdict
        if isinstance(verdict, Later):
            said = verdict.verdict
        if isinstance(said, Disconnect):
            said = said.reply
        words = getattr(said, "text", None)
        self._tell(
            event,
            verdict=name,
            code=getattr(said, "code", None),
            enhanced=getattr(said, "enhanced", None),
            text=_text(words) if isinstance(words, bytes) else words,
            shadow=shadow,
        )

    def _count(self, name: str, event: Mapping[str, Any], **more: str) -> None:
        if self._page is not None:
            labels = {**self._labels, "plugin": event["plugin"], "hook": event["hook"], **more}
            self._page.add(series(name, **labels))

    def _tell(self, event: Mapping[str, Any], **fields: Any) -> None:
        """Write an object to standard error, where the role's remarks go, in one write."""
        if not log.with_objects:
            return
        record = {
            "profile": self._labels["profile"],
            "plugin": event["plugin"],
            "hook": event["hook"],
            **fields,
            **subject(event["given"]),
        }
        try:
            os.write(2, log.event(event["event"], record, self._role))
        except OSError:
            return  # nobody listens; that must not stop the mail


def subject(given: Mapping[str, Any]) -> dict[str, str | None]:
    """Return whom the question was about: client, sender and recipient, as far as there are any."""
    session, transaction = given.get("session"), given.get("transaction")
    recipient, delivery = given.get("recipient"), given.get("delivery")
    found: dict[str, str | None] = {"client_ip": None, "sender": None, "recipient": None}
    if isinstance(session, Session):
        found["client_ip"] = session.remote_ip
    if isinstance(transaction, Transaction):
        found["sender"] = _text(transaction.sender)
    if isinstance(recipient, Recipient):
        found["recipient"] = _text(recipient.address)
    if isinstance(delivery, Delivery):
        found["sender"] = _text(delivery.sender)
        found["recipient"] = _text(b" ".join(delivery.recipients))
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _timed(function: Callable[..., Any], values: memoryview[float], calls: int, seconds: int) -> Callable[..., Any]:
    def counted(*given: Any) -> Any:
        began = perf_counter()
        try:
            return function(*given)
        finally:
            values[calls] += 1.0
            values[seconds] += perf_counter() - began

    return counted


def _timed_coroutine(
    function: Callable[..., Any], values: memoryview[float], calls: int, seconds: int
) -> Callable[..., Any]:
    async def counted(*given: Any) -> Any:
        began = perf_counter()
        try:
            return await function(*given)
        finally:
            values[calls] += 1.0
            values[seconds] += perf_counter() - began

    return counted
