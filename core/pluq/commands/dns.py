"""pluq dns DOMAIN: which DNS records this site should publish for a domain, and whether they are there.

    pluq dns DOMAIN [--host NAME] [--ip ADDRESS]... [--no-fetch] [--json]

For each record one of: ok; missing; different (what is there will not do); optional (not there, and mail works without); unknown (DNS did not
answer). Looked at are MX, the addresses of its hosts, the names of our addresses, SPF, what plugins need (the public half of each DKIM
key that signs the domain), DMARC, MTA-STS with its policy, and TLSRPT.

This host is called as control/me says, and has the public addresses of its interfaces; --host and --ip say it better, as behind
address translation. The name servers are those of /etc/resolv.conf, or PLUQ_DNS_SERVER: after a change they may know the old record for
its time to live.

Exit codes: 0 nothing is missing; 1 something is missing or different; 111 something is not known; 2 usage.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.hookspecs.plugin import DnsRecord
    from pluq.publish.finding import Finding
    from pluq.publish.hosts import Us

INCOMPLETE = 1
UNKNOWN = 111
DOMAIN = re.compile(r"[^\s.@/]+(\.[^\s.@/]+)*")


def main() -> int:
    import argparse
    import asyncio

    from pluq.commands.help_text import HelpText
    from pluq.commands.queue_options import add_home, home_of
    from pluq.errors import PluqError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("domain", metavar="DOMAIN")
    parser.add_argument("--host", metavar="NAME", help="the name of this host (default: control/me)")
    parser.add_argument("--ip", metavar="ADDRESS", type=address, action="append", help="a public address of this host")
    parser.add_argument("--no-fetch", action="store_true", help="do not fetch the MTA-STS policy by HTTPS")
    parser.add_argument("--json", action="store_true", help="one JSON object for each record")
    add_home(parser)
    options = parser.parse_args()
    home = home_of(options)
    domain = options.domain.lower().rstrip(".")
    if not DOMAIN.fullmatch(domain):
        parser.error(f"{options.domain!r} is no domain, such as example.org")
    try:
        us = who_we_are(home, options.host, options.ip)
        findings = asyncio.run(look(domain, us, records_of_plugins(home, domain), not options.no_fetch))
    except PluqError as error:
        sys.stderr.write(f"pluq dns: {error}\n")
        return UNKNOWN
    for finding in findings:
        sys.stdout.write(as_json(finding) if options.json else "".join(f"{line}\n" for line in lines(finding)))
    return code_of(findings)


def address(text: str) -> str:
    import argparse
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address") from None


def who_we_are(home: Home, host: str | None, addresses: list[str] | None) -> Us:
    """Return our name and addresses. Raises ConfigError."""
    from pluq.errors import ConfigError
    from pluq.publish.hosts import Us
    from pluq.publish.survey import public_addresses

    name = host or (home.controls.me() or b"").decode("ascii", "replace")
    if not name:
        raise ConfigError(home.control("me"), "missing or empty; --host says what this host is called")
    return Us(name.lower().rstrip("."), addresses if addresses is not None else public_addresses())


def records_of_plugins(home: Home, domain: str) -> list[DnsRecord]:
    """Return the records that enabled plugins need for a domain, each once. Raises ConfigError."""
    from pluq.config.site import read_site
    from pluq.errors import ConfigError
    from pluq.plan.inspect import plans

    found: dict[str, DnsRecord] = {}
    for _name, plan in plans(home, read_site(home)):
        if isinstance(plan, ConfigError):
            raise plan
        for plugin in plan.plugins:
            found.update((record.name, record) for record in plugin.dns_records(domain))
    return list(found.values())


async def look(domain: str, us: Us, records: list[DnsRecord], fetch: bool) -> list[Finding]:
    """Ask the world."""
    from pluq.dns import Resolver
    from pluq.publish.policies import fetch_policy
    from pluq.publish.survey import survey

    resolver = Resolver.from_system()
    try:
        return await survey(resolver, domain, us, records, fetch_policy if fetch else None)
    finally:
        await resolver.close()


def lines(finding: Finding) -> Iterator[str]:
    """Yield a finding as text."""
    yield f"{finding.state.value:<10} {finding.name} {finding.rdtype}   ({finding.what})"
    yield from (f"{'':10}   found    {one}" for one in finding.found)
    if finding.why:
        yield f"{'':10}   but      {finding.why}" if finding.found else f"{'':10}   note     {finding.why}"
    if finding.publish:
        yield f"{'':10}   publish  {finding.publish}"


def as_json(finding: Finding) -> str:
    import json
    from dataclasses import asdict

    return json.dumps({**asdict(finding), "state": finding.state.value, "found": list(finding.found)}) + "\n"


def code_of(findings: list[Finding]) -> int:
    from pluq.publish.finding import State

    states = {finding.state for finding in findings}
    if states & {State.MISSING, State.DIFFERENT}:
        return INCOMPLETE
    return UNKNOWN if State.UNKNOWN in states else 0
