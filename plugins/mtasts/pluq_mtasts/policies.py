"""Which policy holds for a domain now: what is known, what is announced, and what was fetched.

    known and announced under the same id, fetched within a day   it holds
    announced under another id, or older than a day               fetched; if that fails what is known holds until its max_age is over
    not announced any more, or DNS fails                          what is known holds until its max_age is over

A fetch that failed is repeated after FAILURE_SECONDS at the earliest. Deliveries to one domain wait for one fetch.

Source: RFC 8461 sections 3.3 and 5.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pluq.dns import NoRecords, Resolver
from pluq.errors import ProtocolError, TemporaryFailure
from pluq_mtasts.cache import Cache, Known
from pluq_mtasts.fetch import Fetcher
from pluq_mtasts.policy import Policy, is_host_name, policy_id

REFRESH_SECONDS = 86400
FAILURE_SECONDS = 300

# Domains whose fetches failed lately. Beyond that some are asked again too soon.
MAX_FAILURES = 10_000


class Policies:
    """The policies of all domains. `now` is the time in seconds since the epoch."""

    def __init__(
        self, cache: Cache, fetcher: Fetcher, resolver: Resolver, now: Callable[[], float], log: Callable[[str], None]
    ) -> None:
        self.cache = cache
        self.fetcher = fetcher
        self.resolver = resolver
        self.now = now
        self.log = log
        self._failed: dict[tuple[str, str], float] = {}
        self._flying: dict[str, asyncio.Task[None]] = {}

    def known(self, domain: str) -> Known | None:
        """Return what is known of a domain and still holds, without asking anybody."""
        found = self.cache.get(domain) if is_host_name(domain) else None
        return found if found is not None and found.holds(self.now()) else None

    async def find(self, domain: str) -> Policy | None:
        """Return the policy that holds for a domain (lower case), None where there is none."""
        if not is_host_name(domain):
            return None
        announced = await self.announced(domain)
        if announced is not None and self.is_due(domain, announced):
            await self.refresh(domain, announced)
        known = self.known(domain)
        return None if known is None else known.policy

    async def announced(self, domain: str) -> str | None:
        """Return the id that DNS has, None where it has none or does not answer."""
        try:
            return policy_id(await self.resolver.txt(f"_mta-sts.{domain}"))
        except (NoRecords, TemporaryFailure, ProtocolError):
            return None

    def is_due(self, domain: str, announced: str) -> bool:
        """Return whether the policy is to be fetched now."""
        now = self.now()
        if now - self._failed.get((domain, announced), -FAILURE_SECONDS) < FAILURE_SECONDS:
            return False
        known = self.known(domain)
        if known is None or known.id != announced:
            return True
        return now - known.fetched >= min(REFRESH_SECONDS, known.policy.max_age / 2)

    async def refresh(self, domain: str, announced: str) -> None:
        """Fetch a policy and remember it, or remember that it failed."""
        task = self._flying.get(domain)
        if task is None:
            task = self._flying[domain] = asyncio.create_task(self._fetch(domain, announced))
            task.add_done_callback(lambda _: self._flying.pop(domain, None))
        await asyncio.shield(task)

    async def _fetch(self, domain: str, announced: str) -> None:
        try:
            policy, body = await self.fetcher.fetch(domain, self.resolver)
        except (ProtocolError, TemporaryFailure) as error:
            while len(self._failed) >= MAX_FAILURES:
                del self._failed[next(iter(self._failed))]
            self._failed[domain, announced] = self.now()
            self.log(f"{domain}: the policy cannot be fetched: {error}")
            return
        try:
            self.cache.put(domain, Known(policy, announced, int(self.now())), body)
        except OSError as error:
            self.log(f"{domain}: the policy is not kept beyond a restart: {error}")
