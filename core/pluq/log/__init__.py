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
    "Tell",
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

Tell = Callable[..., bytes]
_listeners: Mapping[str, Callable[[Tell], Tell]] = {}


def use(form: str) -> None:
    """Tell everything in this form from now on, in this process and those that it forks."""
    global with_lines, with_objects
    with_lines, with_objects = form != "json", form != "qmail"
    _rebind()


def listen(listeners: Mapping[str, Callable[[Tell], Tell]]) -> None:
    """Put functions round those of some events, in this process: each is given the form's function and returns what is called instead.

    Figures are made so: what is told is heard on its way, at the cost of one call.
    """
    global _listeners
    _listeners = listeners
    _rebind()


def _rebind() -> None:
    global wants_about
    wants_about = with_objects or "delivered" in _listeners
    for name in _FUNCTIONS:
        function = _function(name)
        globals()[name] = _listeners[name](function) if name in _listeners else function


def _function(name: str) -> Tell:
    line: Tell = getattr(lines, name)
    if not with_objects:
        return line
    from pluq.log import objects

    record: Tell = getattr(objects, name)
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
