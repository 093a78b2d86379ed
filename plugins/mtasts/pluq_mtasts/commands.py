"""`pluq mtasts check DOMAIN`: the policy of a domain as it is published now, and which of its exchangers it names."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from pluq.dns import NoRecords, Resolver
from pluq.errors import ProtocolError, TemporaryFailure
from pluq_mtasts import make_context
from pluq_mtasts.fetch import Fetcher
from pluq_mtasts.policy import Policy, is_host_name, policy_id


def check(arguments: Sequence[str]) -> int:
    """Print what is found.

    Exit status 0; 1 where there is no policy or a bad one; 111 where nobody answers; 100 for wrong usage.
    """
    domain = arguments[0].lower().removesuffix(".") if len(arguments) == 1 else ""
    if not is_host_name(domain):
        print("usage: pluq mtasts check DOMAIN", file=sys.stderr)
        return 100
    status, lines = asyncio.run(_run(domain))
    for line in lines:
        print(line)
    return status


async def _run(domain: str) -> tuple[int, list[str]]:
    resolver = Resolver.from_system()
    try:
        return await look(domain, resolver, Fetcher(lambda: make_context("")))
    finally:
        await resolver.close()


async def look(domain: str, resolver: Resolver, fetcher: Fetcher) -> tuple[int, list[str]]:
    """Return the exit status and the lines to print."""
    try:
        found = policy_id(await resolver.txt(f"_mta-sts.{domain}"))
        if found is None:
            return 1, [f"_mta-sts.{domain}: no record, or more than one"]
        policy, _ = await fetcher.fetch(domain, resolver)
        exchangers = [mx.host.decode("ascii", "replace") for mx in await resolver.mx(domain)]
    except NoRecords as error:
        return 1, [str(error)]
    except ProtocolError as error:
        return 1, [f"https://mta-sts.{domain}: {error}"]
    except TemporaryFailure as error:
        return 111, [str(error)]
    return 0, describe(found, policy, exchangers)


def describe(found: str, policy: Policy, exchangers: Sequence[str]) -> list[str]:
    lines = [f"id: {found}", f"mode: {policy.mode}", f"max_age: {policy.max_age} seconds"]
    lines += [f"mx: {pattern}" for pattern in policy.exchangers]
    return lines + [f"{host}: {'named' if policy.covers(host) else 'NOT NAMED'}" for host in exchangers]
