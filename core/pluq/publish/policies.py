"""DMARC, MTA-STS and TLS reports: the policies that a domain publishes.

Source: RFC 7489 section 6 and 7.1, RFC 8461, RFC 8460 section 3.
"""

from __future__ import annotations

import asyncio
import fnmatch
import http.client
import ssl
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from pluq.dns import Resolver
from pluq.publish.finding import Finding, State, shown, tags, texts

FETCH_SECONDS = 15.0
POLICY_BYTES = 65536
POLICIES = ("none", "quarantine", "reject")
MODES = ("enforce", "testing", "none")
PATH = "/.well-known/mta-sts.txt"

Fetch = Callable[[str], bytes]
"""Gets the policy file from a host by HTTPS. Raises OSError."""


async def dmarc(resolver: Resolver, domain: str) -> Finding:
    """Return what there is to say of DMARC. A domain without a record has that of the domain above it. Raises TemporaryFailure."""
    publish = f'_dmarc.{domain}. TXT "v=DMARC1; p=none; rua=mailto:postmaster@{domain}"'
    owner = domain
    while True:
        records = await texts(resolver, f"_dmarc.{owner}", b"v=DMARC1")
        parent = owner.partition(".")[2]
        if records or "." not in parent:
            break
        owner = parent
    name, what = f"_dmarc.{owner if records else domain}", "DMARC: what to do with forgeries"
    if not records:
        why = "large sites want one from whoever sends much; begin with p=none and read the reports"
        return Finding(State.MISSING, name, "TXT", what, [], publish, why)
    found = [shown(record) for record in records]
    why = "there must be one record" if len(records) > 1 else await _dmarc_fault(resolver, owner, tags(records[0]))
    return Finding(State.DIFFERENT if why else State.OK, name, "TXT", what, found, publish if why else "", why)


async def _dmarc_fault(resolver: Resolver, owner: str, found: dict[str, str]) -> str:
    if found.get("p", "").lower() not in POLICIES:
        return f"p= must be one of {', '.join(POLICIES)}"
    for kind in ("rua", "ruf"):
        for address in filter(None, (one.strip() for one in found.get(kind, "").split(","))):
            host = address.rpartition("@")[2].partition("!")[0].lower()
            if not address.lower().startswith("mailto:") or not host:
                return f"{kind}={address} is no mailto: address"
            inside = host == owner or host.endswith(f".{owner}") or owner.endswith(f".{host}")
            if not inside and not await texts(resolver, f"{owner}._report._dmarc.{host}", b"v=DMARC1"):
                return f'{host} does not say that it takes reports: {owner}._report._dmarc.{host}. TXT "v=DMARC1"'
    return ""


async def mta_sts(resolver: Resolver, domain: str, hosts: Sequence[str], fetch: Fetch | None) -> Finding:
    """Return what there is to say of MTA-STS. `fetch` gets the policy, None: it is not looked at. Raises TemporaryFailure."""
    name, what = f"_mta-sts.{domain}", "MTA-STS: mail to us is encrypted, or not sent"
    publish = f'{name}. TXT "v=STSv1; id={time.strftime("%Y%m%d%H%M%S", time.gmtime())}"'
    publish += f"; and https://mta-sts.{domain}{PATH}: version: STSv1, mode: testing, max_age: 604800"
    publish += "".join(f", mx: {host}" for host in hosts)
    records = await texts(resolver, name, b"v=STSv1")
    if not records:
        return Finding(State.OPTIONAL, name, "TXT", what, [], publish)
    found = [shown(record) for record in records]
    why = "there must be one record" if len(records) > 1 else ""
    if not why and not tags(records[0]).get("id", "").isalnum():
        why = "id= must be there, letters and digits"
    if not why and fetch is not None:
        try:
            policy = await asyncio.to_thread(fetch, f"mta-sts.{domain}")
        except (OSError, http.client.HTTPException) as error:
            why = f"the policy cannot be fetched: {error}"
        else:
            found.append(" ".join(shown(policy[:POLICY_BYTES].replace(b"\n", b", ").replace(b"\r", b"")).split()))
            why = policy_fault(policy, hosts)
    return Finding(State.DIFFERENT if why else State.OK, name, "TXT", what, found, publish if why else "", why)


def policy_fault(policy: bytes, hosts: Sequence[str]) -> str:
    """Return what is wrong with an MTA-STS policy for a domain with these mail exchangers."""
    pairs = [line.partition(":")[::2] for line in policy.decode("ascii", "replace").splitlines() if line.strip()]
    lines = [(name.strip(), value.strip()) for name, value in pairs]
    values = dict(lines)
    if values.get("version") != "STSv1":
        return "the policy has no version: STSv1"
    if values.get("mode") not in MODES:
        return f"the policy's mode must be one of {', '.join(MODES)}"
    if not values.get("max_age", "").isdigit():
        return "the policy has no max_age: in seconds"
    patterns = [value.lower() for name, value in lines if name == "mx"]
    for host in hosts:
        if values["mode"] != "none" and not any(_covers(pattern, host) for pattern in patterns):
            return f"the policy does not name the mail exchanger {host}"
    return ""


def _covers(pattern: str, host: str) -> bool:
    """Say whether a policy's pattern means a host: *.example.org is for one label."""
    return fnmatch.fnmatchcase(host, pattern) and host.count(".") == pattern.count(".")


def fetch_policy(host: str) -> bytes:
    """Get the policy from a host, whose certificate must be valid; no redirection is followed. Raises OSError, HTTPException."""
    connection = http.client.HTTPSConnection(host, timeout=FETCH_SECONDS, context=ssl.create_default_context())
    try:
        connection.request("GET", PATH)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise OSError(f"https://{host}{PATH} answers {response.status}")
        return response.read(POLICY_BYTES)
    finally:
        connection.close()


async def tls_reports(resolver: Resolver, domain: str) -> Finding:
    """Return what there is to say of reports about TLS. Raises TemporaryFailure."""
    name, what = f"_smtp._tls.{domain}", "TLSRPT: reports about TLS"
    publish = f'{name}. TXT "v=TLSRPTv1; rua=mailto:postmaster@{domain}"'
    records = await texts(resolver, name, b"v=TLSRPTv1")
    if not records:
        return Finding(State.OPTIONAL, name, "TXT", what, [], publish)
    why = "there must be one record" if len(records) > 1 else ""
    targets = [one.strip() for one in tags(records[0]).get("rua", "").split(",")]
    if not why and not all(urlsplit(one).scheme in ("mailto", "https") and one[8:] for one in targets):
        why = "rua= must be mailto: or https:"
    found = [shown(record) for record in records]
    return Finding(State.DIFFERENT if why else State.OK, name, "TXT", what, found, publish if why else "", why)
