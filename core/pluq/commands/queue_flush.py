"""What `pluq queue flush` forgets beside the queue: which hosts did not answer lately, for they would be left alone.

For the whole queue, all of them, as qmail-tcpok does. For some messages, those to which these would go: by smtproutes, MX and A. Where
that cannot be found out, or are too many to look up, all of them: a host that is tried once too often costs less than mail that waits.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config import Home

MAX_HOSTS = 50
LOOKUP_SECONDS = 20.0


def forget_timeouts(home: Home, hosts: Collection[bytes] | None) -> None:
    """Forget which addresses of these domains did not answer lately; None: of all."""
    from pluq.remote import tcpto

    path = f"{home.queue}/lock/tcpto"
    found = None if hosts is None or len(hosts) > MAX_HOSTS else asyncio.run(addresses(home, hosts))
    try:
        if found is None:
            tcpto.clear(path)
        else:
            tcpto.forget(path, found)
    except OSError as error:
        sys.stderr.write(f"pluq queue flush: warning: {error}; hosts that did not answer lately may be left alone\n")


async def addresses(home: Home, hosts: Collection[bytes]) -> set[str] | None:
    """Return the addresses that mail for these domains goes to; None where that cannot be known now."""
    from pluq.dns import Resolver
    from pluq.errors import TemporaryFailure
    from pluq.remote.route import Routes, Undeliverable, find_candidates

    routes = Routes(home.controls.lines("smtproutes") or [])
    resolver = Resolver.from_system()
    found: set[str] = set()
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            for host in hosts:
                found.update(one.address for one in await find_candidates(routes.route(host), resolver))
    except (TimeoutError, TemporaryFailure, Undeliverable):
        return None
    finally:
        await resolver.close()
    return found
