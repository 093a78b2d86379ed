"""Everything that a domain should publish, in the order in which mail needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from ipaddress import ip_address

from pluq.dns import Resolver
from pluq.errors import TemporaryFailure
from pluq.hookspecs.plugin import DnsRecord
from pluq.publish import policies, spf
from pluq.publish.finding import Finding, State, shown
from pluq.publish.hosts import Exchangers, Us, exchangers, names

INTERFACES6 = "/proc/net/if_inet6"
GLOBAL_SCOPE = "00"
DKIM = "DKIM: keys of signatures"
NO_KEY = "nothing here signs mail of the domain; the plugin dkim does, with a key that `pluq dkim keygen` makes"


def public_addresses() -> list[str]:
    """Return the addresses of this machine that the world may reach; none behind address translation."""
    from pluq.config.ipme import my_addresses

    try:
        found = sorted(my_addresses())
    except OSError:
        found = []
    try:
        with open(INTERFACES6) as file:
            rows = [line.split() for line in file]
    except OSError:
        rows = []
    found += [str(ip_address(int(row[0], 16))) for row in rows if row[3:4] == [GLOBAL_SCOPE]]
    return [address for address in found if ip_address(address).is_global]


async def survey(
    resolver: Resolver, domain: str, us: Us, records: Sequence[DnsRecord], fetch: policies.Fetch | None
) -> list[Finding]:
    """Return all findings for a domain. `records` are what plugins need, `fetch` gets the MTA-STS policy."""
    findings: list[Finding] = []
    mail = Exchangers({}, [])
    try:
        mail, found = await exchangers(resolver, domain, us)
        findings += found
    except TemporaryFailure as failure:
        findings.append(_unknown(domain, "MX", "where mail goes", failure))
    ours = list(us.addresses) or [address for host in mail.ours for address in mail.hosts[host]]
    for address in dict.fromkeys(ours):
        findings.append(await _tried(names(resolver, address, us), address, "PTR", f"name of {address}"))
    findings.append(await _tried(spf.survey(resolver, domain, us, mail), domain, "TXT", "SPF"))
    if not any("._domainkey." in record.name for record in records):
        findings.append(Finding(State.OPTIONAL, f"_domainkey.{domain}", "TXT", DKIM, why=NO_KEY))
    for record in records:
        findings.append(await _tried(_of_plugin(resolver, record), record.name, record.rdtype, record.what))
    findings.append(await _tried(policies.dmarc(resolver, domain), f"_dmarc.{domain}", "TXT", "DMARC"))
    hosts = list(mail.hosts)
    findings.append(
        await _tried(policies.mta_sts(resolver, domain, hosts, fetch), f"_mta-sts.{domain}", "TXT", "MTA-STS")
    )
    findings.append(await _tried(policies.tls_reports(resolver, domain), f"_smtp._tls.{domain}", "TXT", "TLSRPT"))
    return findings


async def _tried(work: Awaitable[Finding], name: str, rdtype: str, what: str) -> Finding:
    try:
        return await work
    except TemporaryFailure as failure:
        return _unknown(name, rdtype, what, failure)


def _unknown(name: str, rdtype: str, what: str, failure: TemporaryFailure) -> Finding:
    return Finding(State.UNKNOWN, name, rdtype, what, why=failure.text)


async def _of_plugin(resolver: Resolver, record: DnsRecord) -> Finding:
    """Return what there is to say of a record that a plugin needs."""
    found = (await resolver.lookup(record.name, record.rdtype)).records
    values = [shown(one) if isinstance(one, bytes) else str(one) for one in found]
    publish = f'{record.name}. {record.rdtype} "{record.value}"'
    if not found:
        return Finding(State.MISSING, record.name, record.rdtype, record.what, [], publish)
    why = record.fault(found)
    return Finding(
        State.DIFFERENT if why else State.OK,
        record.name,
        record.rdtype,
        record.what,
        values,
        publish if why else "",
        why,
    )
