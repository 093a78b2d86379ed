"""`pluq dmarc check DOMAIN`: what is wanted of mail from a domain, as this plugin would find it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from pluq.dns import Budget, Resolver
from pluq.errors import TemporaryFailure
from pluq_dmarc.author import normal_domain
from pluq_dmarc.discover import Finder, Policy
from pluq_dmarc.record import applied

QUERIES = 20
SECONDS = 30.0


def check(arguments: Sequence[str]) -> int:
    """Print the policy for a domain.

    Exit status 0, 1 where there is none, 111 where DNS does not answer, 100 for wrong usage.
    """
    domain = normal_domain(arguments[0]) if len(arguments) == 1 else None
    if domain is None:
        print("usage: pluq dmarc check DOMAIN", file=sys.stderr)
        return 100
    try:
        policy, organization = asyncio.run(look(domain))
    except TemporaryFailure as failure:
        print(f"{domain}: {failure}", file=sys.stderr)
        return 111
    for line in describe(domain, policy, organization):
        print(line)
    return 0 if policy is not None else 1


async def look(domain: str) -> tuple[Policy | None, str]:
    resolver = Resolver.from_system()
    try:
        finder = Finder(resolver, Budget(QUERIES, SECONDS))
        return await finder.policy(domain), await finder.organizational(domain)
    finally:
        await resolver.close()


def describe(domain: str, policy: Policy | None, organization: str) -> list[str]:
    """Return what there is to know, a line each."""
    if policy is None:
        return [f"{domain}: no DMARC record: nothing is asked for"]
    wanted = applied(policy.wanted, policy.record.testing)
    modes = {True: "strict", False: "relaxed"}
    return [
        f"record: _dmarc.{policy.domain}",
        f"policy: {wanted}" + (f" (in test mode, announced is {policy.wanted})" if policy.record.testing else ""),
        f"organization: {organization}",
        f"alignment: SPF {modes[policy.record.strict_spf]}, DKIM {modes[policy.record.strict_dkim]}",
    ]
