"""What a stack tells: one event, in one form or the other, or in both.

    lines      qmail-log(5), and the lines of the listeners: what old tools read. The default, byte for byte
    objects    the same events, and some that qmail has no line for, as JSON objects

`use` chooses for this process and all that it forks, before there is anything to tell: `[log] format` in control/pluq.toml. The
functions of this module are then those of the form: `log.new_message(42)` returns what is to be written, whatever that is, and
costs nothing more than the function itself. An event is one line, or one of each form, and goes out in one write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pluq.log import lines
from pluq.log.about import About
from pluq.log.lines import (
    alert,
    bounced,
    delivered,
    end_message,
    escape,
    info,
    leaving,
    new_message,
    no_bounce,
    remark,
    starting,
    status,
    steered,
    warning,
)
from pluq.log.writer import LineWriter

__all__ = [
    "FORMATS",
    "About",
    "LineWriter",
    "alert",
    "be",
    "bounced",
    "delivered",
    "end_message",
    "escape",
    "event",
    "info",
    "leaving",
    "listen",
    "new_message",
    "no_bounce",
    "remark",
    "say",
    "starting",
    "status",
    "steered",
    "use",
    "wants_about",
    "warning",
    "with_lines",
    "with_objects",
]

FORMATS = ("qmail", "json", "both")
_FUNCTIONS = (
    "alert",
    "bounced",
    "delivered",
    "end_message",
    "info",
    "leaving",
    "new_message",
    "no_bounce",
    "remark",
    "starting",
    "status",
    "steered",
    "warning",
)

with_lines = True
"""Events are told as lines."""
with_objects = False
"""Events are told as JSON objects."""
wants_about = False
"""Somebody wants to know what a delivery was about."""

_listeners: dict[str, Callable[..., object]] = {}


def use(form: str) -> None:
    """Tell everything in this form from now on, in this process and those that it forks."""
    global with_lines, with_objects
    with_lines, with_objects = form != "json", form != "qmail"
    _rebind()


def listen(listeners: Mapping[str, Callable[..., object]]) -> None:
    """Have functions called with the values of each event of their name, in this process: figures are made so."""
    _listeners.clear()
    _listeners.update(listeners)
    _rebind()


def _rebind() -> None:
    global wants_about
    wants_about = with_objects or "delivered" in _listeners
    globals().update({name: _heard(name) for name in _FUNCTIONS})


def _heard(name: str) -> Callable[..., bytes]:
    listener, function = _listeners.get(name), _function(name)
    if listener is None:
        return function

    def told(*values: Any) -> bytes:
        listener(*values)
        return function(*values)

    return told


def _function(name: str) -> Callable[..., bytes]:
    line: Callable[..., bytes] = getattr(lines, name)
    if not with_objects:
        return line
    from pluq.log import objects

    record: Callable[..., bytes] = getattr(objects, name)
    if not with_lines:
        return record
    return lambda *values: line(*values) + record(*values)


def be(role: str) -> None:
    """Let the events of this process bear the name of a role."""
    if with_objects:
        from pluq.log import objects

        objects.of_role(role)


def event(name: str, fields: Mapping[str, Any], role: str = "") -> bytes:
    """Return an event that has no line, or whose line is made elsewhere. Only where there are objects."""
    from pluq.log import objects

    return objects.event(name, fields, role)


def say(role: str, text: str) -> None:
    """Write one remark to standard error, in one write. Nobody may be listening; that must not stop the mail."""
    try:
        os.write(2, remark(role, text))
    except OSError:
        return
