"""Local or remote: the rules of qmail-send, and the line of each."""

from __future__ import annotations

from pluq.config import Home
from pluq.explain.places import control_line, line_or_me, listed, mapped
from pluq.explain.step import Step, text
from pluq.send.rewrite import LOCAL, Routing


def route(home: Home, routing: Routing, address: bytes, depth: int) -> tuple[int, bytes, list[Step]]:
    """Return channel and address as the scheduler decides them, and the steps to it."""
    steps = []
    completed = routing.completed(address)
    if b"@" not in address:
        host = text(completed.rpartition(b"@")[2])
        steps.append(
            Step(f"{text(address)} has no domain: {host} is added", line_or_me(home, "envnoathost"), depth=depth)
        )
    elif completed != address:
        domain = address.rpartition(b"@")[2].lower()
        steps.append(Step(f"becomes {text(completed)}", listed(home, "percenthack", domain), depth=depth))
    channel, routed = routing.route(address)
    steps.append(reason(home, routing, channel, completed, routed, depth))
    return channel, routed, steps


def reason(home: Home, routing: Routing, channel: int, completed: bytes, routed: bytes, depth: int) -> Step:
    """Return why an address is local or remote."""
    domain = completed.rpartition(b"@")[2].lower()
    entry = routing.virtual_entry(completed)
    if channel == LOCAL and routed == completed:
        has_locals = home.controls.lines("locals") is not None
        by = listed(home, "locals", domain) if has_locals else "control/me:1, for there is no locals"
        return Step(f"{text(domain)} is delivered here", by, depth=depth)
    if channel == LOCAL and entry is not None:
        what = f"{key_text(entry[0])} is a virtual domain: {text(routed)} is delivered here"
        return Step(what, mapped(home, "virtualdomains", entry[0]), depth=depth)
    if entry is not None:
        what = f"{key_text(entry[0])} is no virtual domain after all, so the mail goes to another host"
        return Step(what, mapped(home, "virtualdomains", entry[0]), depth=depth)
    by = "control/locals" if home.controls.lines("locals") is not None else control_line(home, "me", lambda line: True)
    return Step(f"{text(domain)} is neither local nor virtual, so the mail goes to another host", by, depth=depth)


def key_text(key: bytes) -> str:
    return text(key) or "every domain"
