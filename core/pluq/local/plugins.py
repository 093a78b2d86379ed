"""Plugins of local delivery: loading those that the site enables, asking them about an instruction, and about mail sent on.

They are loaded and asked in the process that delivers, as its user: nothing of a plugin runs as root. Deliveries run in threads and
processes without an event loop; a chain gets one of its own for the time of its question.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pluq import log
from pluq.config.home import Home
from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.local.instructions import Instruction, Kind
from pluq.local.order import Order
from pluq.local.report import PERMANENT
from pluq.plan import EMPTY, Plan

if TYPE_CHECKING:
    from pluq.config.site import Site
    from pluq.hookspecs import Verdict

# What asking a plugin takes, without the plugin: for those who fork the processes that ask.
PRELOADED = ("asyncio", "pluq.config.site", "pluq.hookspecs", "pluq.plan.compile")
FIRST_SIGNAL = 128
"""An exit code from here on is a shell's word for a signal."""
PREFIXES = {Kind.PROGRAM: b"|", Kind.FORWARD: b"&", Kind.MBOX: b"", Kind.MAILDIR: b""}


def are_possible(home: Home) -> bool:
    """Say whether the site has a file that could enable plugins."""
    return os.path.exists(home.control("pluq.toml"))


def site_choices(home: Home) -> dict[str, Any]:
    """Return what control/pluq.toml says of deliveries, as fields of Surroundings; nothing without it. Raises ConfigError."""
    if not are_possible(home):
        return {}
    from pluq.config.site import read_site

    site = read_site(home)
    return {"plan": _compile(home, site), "sized_names": site.core.maildir_sizes}


def load_plan(home: Home) -> Plan:
    """Return the plan of `[local]`, started; EMPTY without reading more where there is no pluq.toml. Raises ConfigError."""
    if not are_possible(home):
        return EMPTY
    from pluq.config.site import read_site

    return _compile(home, read_site(home))


def _compile(home: Home, site: Site) -> Plan:
    if not site.role("local").plugins:
        return EMPTY
    from pluq.plan.compile import started_plan

    return started_plan(home, site, "local", remark)


def remark(text: str) -> None:
    """Write one line where the role's faults go."""
    log.say("local", text)


def ask(chain: Any, order: Order, instruction: Instruction, message: int, environment: Mapping[str, str]) -> bool:
    """Return whether a plugin has carried the instruction out. Raises TemporaryFailure, PermanentFailure."""
    import asyncio

    from pluq.hookspecs import Delivery, Message

    with open(os.dup(message), "rb") as file:
        delivery = Delivery(
            "local",
            0,
            order.sender,
            [order.recipient],
            order.host,
            Message(file, os.fstat(message).st_size),
        )
        line = PREFIXES[instruction.kind] + instruction.argument
        verdict = asyncio.run(chain(delivery=delivery, instruction=line, environment=environment))
    heed(verdict)
    return verdict is not None


def forwarded(
    plan: Plan, channel: str, sender: bytes, recipients: Sequence[bytes], environment: Mapping[str, str]
) -> tuple[bytes, Sequence[bytes]]:
    """Return the envelope of a message that is sent on, as plugins want it. Raises TemporaryFailure, PermanentFailure."""
    if plan.forward_envelope is None:
        return sender, recipients
    from pluq.hookspecs import Delivery

    delivery = Delivery(channel, 0, sender, list(recipients))
    heed(plan.forward_envelope(delivery=delivery, environment=environment))
    return delivery.sender, delivery.recipients


class Refused(PermanentFailure):
    """A plugin's refusal. `exit_code` is what qmail-local exits with: the code of the verdict, if it can be one."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = code if code < FIRST_SIGNAL else PERMANENT


def heed(verdict: Verdict | None) -> None:
    """Raise what the verdict says: Refused or TemporaryFailure."""
    from pluq.hookspecs import Accept, Defer, Reject

    if verdict is None or isinstance(verdict, Accept):
        return
    if not isinstance(verdict, (Reject, Defer)):
        raise TemporaryFailure("A plugin gave a verdict that has no meaning here. (#4.3.5)", "4.3.5")
    text = verdict.text if isinstance(verdict.text, str) else verdict.text.decode("utf-8", "surrogateescape")
    suffix = f" (#{verdict.enhanced})" if verdict.enhanced else ""
    raise Refused(text + suffix, verdict.code) if isinstance(verdict, Reject) else TemporaryFailure(text + suffix)
