"""The plugins of the scheduler: `[send]` in control/pluq.toml. Without that file nothing is imported for them.

The scheduler has no event loop: its hooks are plain functions, and must be quick, for all mail waits meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pluq.errors import ConfigError, TemporaryFailure
from pluq.plan import EMPTY, Plan

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.mail.bounce import Draft


def load_plan(home: Home, remark: Callable[[str], None]) -> Plan:
    """Return the plan of the role, started. Raises ConfigError, TemporaryFailure."""
    if not os.path.exists(home.control("pluq.toml")):
        return EMPTY
    from pluq.config.site import read_site

    site = read_site(home)
    if not site.role("send").plugins:
        return EMPTY
    from pluq.plan.compile import started_plan

    return started_plan(home, site, "send", remark)


def stop_plan(plan: Plan) -> None:
    """End plugins that are used no more."""
    if plan.stop is not None:
        import asyncio

        asyncio.run(plan.stop())  # type: ignore[arg-type]  # a chain is a coroutine function


def ask(plan: Plan, draft: Draft) -> str | None:
    """Let plugins change a bounce; return why there shall be none, None to send it. Raises TemporaryFailure: later."""
    if plan.send_bounce is None:
        return None
    from pluq.hookspecs import Accept, Discard, clean_text

    try:
        verdict = plan.send_bounce(draft=draft)
    except ConfigError as error:
        raise TemporaryFailure(str(error)) from error
    if verdict is None or isinstance(verdict, Accept):
        return None
    if isinstance(verdict, Discard):
        return clean_text(verdict.text).decode("utf-8", "replace") or "discarded"
    raise TemporaryFailure("a plugin deferred the bounce")
