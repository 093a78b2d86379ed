"""The events of a stack as JSON: one object a line, in ASCII.

    {"time":"2026-11-20T17:20:17.002519Z","event":"delivery","role":"send","delivery":7,"message":42,"channel":"local",...}

The functions have the names and parameters of `lines`, so that either can stand for the other. FIELDS says what each event has;
docs/monitoring.md is tested against it. What strangers wrote is text with escapes: bytes that are no UTF-8 become \\xff. There are
never passwords in it, nor anything from the body of a message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from pluq.log.about import About

OUTCOMES = {b"K": "success", b"Z": "deferral", b"D": "failure"}
COMMON_FIELDS = ("time", "event", "role")

FIELDS: Mapping[str, tuple[str, ...]] = {
    # The listeners
    "connect": (
        "connection",
        "profile",
        "client_ip",
        "client_port",
        "local_ip",
        "local_port",
        "verdict",
        "connections",
        "limit",
    ),
    "disconnect": ("connection", "profile", "client_ip", "status", "seconds", "connections", "limit"),
    "accepted": (
        "connection",
        "profile",
        "client_ip",
        "helo",
        "tls",
        "user",
        "sender",
        "recipients",
        "more",
        "bytes",
        "qp",
        "seconds",
    ),
    "refused": ("connection", "profile", "client_ip", "helo", "tls", "user", "sender", "recipient", "reason", "reply"),
    # Plugins, in every role
    "verdict": (
        "profile",
        "plugin",
        "hook",
        "verdict",
        "code",
        "enhanced",
        "text",
        "shadow",
        "client_ip",
        "sender",
        "recipient",
    ),
    "plugin_error": ("profile", "plugin", "hook", "error", "client_ip", "sender", "recipient"),
    # The scheduler
    "new": ("message",),
    "info": ("message", "bytes", "sender", "qp", "uid"),
    "start": ("delivery", "message", "channel", "recipient"),
    "delivery": (
        "delivery",
        "message",
        "channel",
        "sender",
        "recipient",
        "status",
        "text",
        "seconds",
        "delay",
    ),
    "status": ("local", "local_limit", "remote", "remote_limit", "leaving"),
    "bounce": ("message", "qp"),
    "no_bounce": ("text", "file"),
    "end": ("message",),
    "steer": ("order", "message", "uid"),
    "exit": (),
    # All
    "warning": ("text",),
    "alert": ("text",),
    "remark": ("text",),
}
"""The fields of each event, after those that all have, in their order."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_role = ""
_second = (0, "")


def of_role(role: str) -> None:
    """Let the events of this process bear the name of a role."""
    global _role
    _role = role


def text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def event(name: str, fields: Mapping[str, Any], role: str = "") -> bytes:
    """Return the line of an event."""
    record = {"time": _now(), "event": name, "role": role or _role, **fields}
    return _encode(record).encode("ascii") + b"\n"


def _now() -> str:
    """Return the time as RFC 3339 has it; the second is formatted once."""
    global _second
    now = time.time()
    second = int(now)
    if second != _second[0]:
        _second = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_second[1]}.{int((now - second) * 1_000_000):06d}Z"


# -- the scheduler's events: see `lines`


def status(local: tuple[int, int], remote: tuple[int, int], leaving: bool = False) -> bytes:
    fields = zip(FIELDS["status"], (*local, *remote, leaving), strict=True)
    return event("status", dict(fields))


def new_message(message: int) -> bytes:
    return event("new", {"message": message})


def info(message: int, size: int, sender: bytes, qp: int, uid: int) -> bytes:
    return event("info", {"message": message, "bytes": size, "sender": text(sender), "qp": qp, "uid": uid})


def starting(delivery: int, message: int, channel: bytes, recipient: bytes) -> bytes:
    fields = {"delivery": delivery, "message": message, "channel": text(channel), "recipient": text(recipient)}
    return event("start", fields)


def delivered(delivery: int, outcome: bytes, text_: bytes, about: About | None = None) -> bytes:
    fields: dict[str, Any] = {"delivery": delivery}
    if about is not None:
        fields.update(message=about.message, channel=text(about.channel), sender=text(about.sender))
        fields["recipient"] = text(about.recipient)
    fields.update(status=OUTCOMES.get(outcome, "mangled"), text=text(text_).rstrip("\n"))
    if about is not None:
        fields.update(seconds=round(about.seconds, 6), delay=round(about.delay, 6))
    return event("delivery", fields)


def bounced(message: int, qp: int) -> bytes:
    return event("bounce", {"message": message, "qp": qp})


def no_bounce(why: str, file: bytes) -> bytes:
    return event("no_bounce", {"text": why, "file": text(file)})


def end_message(message: int) -> bytes:
    return event("end", {"message": message})


def steered(order: str, message: int, uid: int) -> bytes:
    return event("steer", {"order": order, "message": message, "uid": uid})


def leaving() -> bytes:
    return event("exit", {})


def warning(what: str | bytes) -> bytes:
    return event("warning", {"text": _text(what)})


def alert(what: str | bytes) -> bytes:
    return event("alert", {"text": _text(what)})


def remark(role: str, what: str) -> bytes:
    return event("remark", {"text": what}, role)


def _text(what: str | bytes) -> str:
    return what if isinstance(what, str) else text(what)
