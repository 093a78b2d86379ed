"""dane: over real TLS, with DNS that is signed or is not, who gets a message and who does not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from pluq import Defer, Delivery, Plugin, Verdict, hook
from pluq.dns import Resolver, Tlsa
from pluq.remote.route import Route
from pluq.testing.certificates import Authority, context_of
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.remote_home import WIRE, RemoteHome, make_job
from pluq.testing.smtp_peer import SmtpPeer
from pluq_dane import Dane
from pluq_dane.records import is_usable, proves
from pluq_tls import Tls

DOMAIN = "dst.example"
MX = "mx.dst.example"
PEER = "127.0.0.2"  # not 127.0.0.1, which is this host itself: mail for it would loop
STARTTLS = [b"PIPELINING"]


def octets(certificate: x509.Certificate, selector: int) -> bytes:
    if selector == 0:
        return certificate.public_bytes(Encoding.DER)
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def tlsa(certificate: x509.Certificate, usage: int = 3, selector: int = 1, matching: int = 1) -> Tlsa:
    data = octets(certificate, selector)
    digest = {0: data, 1: hashlib.sha256(data).digest(), 2: hashlib.sha512(data).digest()}
    return Tlsa(usage, selector, matching, digest.get(matching, data))


class RouteTo(Plugin[Any]):
    """DNS decides on the hosts, the test on the port."""

    name = "routeto"
    route = Route(b"")

    @hook
    def remote_route(self, delivery: Delivery) -> Route:
        return self.route


class Sts(Plugin[Any]):
    """Stands for a plugin behind dane that would refuse a host that nobody has proved."""

    name = "sts"

    @hook
    def remote_session(self, connection: Any) -> Verdict | None:
        return None if connection.tls is not None and connection.tls.proof == "dane" else Defer(text="not proved")


class Site:
    """A home, signed DNS, a host with a certificate below an authority, and its TLSA records."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = RemoteHome(path)
        self.root = Authority("root")
        self.authority = Authority("authority", self.root)
        self.private, self.certificate = self.authority.issue([MX])
        self.dns = FakeDns(ttl=0, authentic=True)
        self.publish(tlsa(self.certificate))

    def publish(self, *records: Tlsa, fault: Fault | None = None, mx: str = MX) -> None:
        """Publish TLSA records of the host, at the port that is known later."""
        self.records = fault or [("TLSA", record) for record in records]
        self.dns.zone = {DOMAIN: [("MX", (10, mx))], MX: [("A", PEER)]}

    def show(self, *chain: x509.Certificate, private: bytes | None = None) -> SmtpPeer:
        """Return the host, which shows this chain."""
        context = context_of(self.path, private or self.private, chain or [self.certificate])
        return SmtpPeer(capabilities=STARTTLS, tls=context, host=PEER)

    async def deliver(
        self, peer: SmtpPeer, *others: Plugin[Any], relay: bytes = b"", base: str = MX, **settings: Any
    ) -> bytes:
        """Return what is reported of a message to the domain, or by way of a relay."""
        self.dns.zone[f"_{peer.port}._tcp.{base}"] = self.records
        route = make_plugin(RouteTo)
        route.route = Route(relay or DOMAIN.encode(), peer.port, relay=bool(relay))
        tls = make_plugin(Tls, home=self.home.home, role="remote")
        tls.start()
        settings = {"trusted_resolver": True, **settings}
        plugin = make_plugin(Dane, home=self.home.home, role="remote", resolver=lambda: self.resolver, **settings)
        plugin.start()
        plan = plan_of(route, plugin, *others, tls)
        records = await self.home.deliverer(plan=plan, resolver=self.resolver).deliver(make_job())
        await asyncio.sleep(0)  # the loop closes connections at its next turn
        return records[-1]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    with made.dns:
        made.resolver = Resolver([made.dns.address], timeout=60.0, attempts=1)
        yield made
        await made.resolver.close()


async def refused(site: Site, peer: SmtpPeer, **how: Any) -> bytes:
    """Deliver, see that nothing was sent in any form, and return the report."""
    with peer:
        said = await site.deliver(peer, **how)
    assert said.startswith(b"Z")
    assert peer.messages == []
    return said


# -- what proves a host


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
async def test_its_own_certificate_or_key_proves_a_host(site: Site, selector: int, matching: int) -> None:
    site.publish(tlsa(site.certificate, 3, selector, matching))
    with site.show() as peer:
        assert (await site.deliver(peer, make_plugin(Sts))).startswith(b"K")
    assert peer.sessions[0].tls
    assert peer.messages == [WIRE]


async def test_names_and_dates_mean_nothing_for_a_host_that_is_known_by_its_key(site: Site) -> None:
    private, old = Authority("nobody").issue(["other.example"], days=-1)
    site.publish(tlsa(old))
    with site.show(old, private=private) as peer:
        assert (await site.deliver(peer)).startswith(b"K")


async def test_one_record_of_several_is_enough(site: Site) -> None:
    _, other = site.authority.issue([MX])
    site.publish(tlsa(other), tlsa(other, 2), Tlsa(9, 9, 9, b"new"), Tlsa(3, 1, 1, b"short"), tlsa(site.certificate))
    with site.show() as peer:
        assert (await site.deliver(peer)).startswith(b"K")


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
async def test_an_authority_in_the_chain_proves_a_host(site: Site, selector: int, matching: int) -> None:
    site.publish(tlsa(site.authority.certificate, 2, selector, matching))
    with site.show(site.certificate, site.authority.certificate) as peer:
        assert (await site.deliver(peer, make_plugin(Sts))).startswith(b"K")


async def test_the_authority_may_stand_further_up(site: Site) -> None:
    site.publish(tlsa(site.root.certificate, 2))
    with site.show(site.certificate, *site.authority.chain()) as peer:
        assert (await site.deliver(peer)).startswith(b"K")


@pytest.mark.parametrize("name", [MX, DOMAIN, "*.dst.example"])
async def test_an_authority_proves_the_host_the_domain_or_a_wildcard(site: Site, name: str) -> None:
    private, certificate = site.authority.issue([name])
    site.publish(tlsa(site.authority.certificate, 2))
    with site.show(certificate, site.authority.certificate, private=private) as peer:
        assert (await site.deliver(peer)).startswith(b"K")


# -- what does not


async def test_another_key_gets_nothing(site: Site) -> None:
    private, other = site.authority.issue([MX])
    said = await refused(site, site.show(other, private=private))
    assert b"mx.dst.example has to prove itself by TLSA records: its certificate matches none" in said


@pytest.mark.parametrize("days", [30, -1])
@pytest.mark.parametrize("name", ["evil.example", "dst.example.evil", "a.mx.dst.example", MX])
async def test_below_an_authority_names_and_dates_count(site: Site, name: str, days: int) -> None:
    private, certificate = site.authority.issue([name], days)
    site.publish(tlsa(site.authority.certificate, 2))
    peer = site.show(certificate, site.authority.certificate, private=private)
    if name == MX and days > 0:
        with peer:
            assert (await site.deliver(peer)).startswith(b"K")
    else:
        await refused(site, peer)


async def test_an_authority_that_signed_nothing_here_proves_nothing(site: Site) -> None:
    private, own = Authority("evil").issue([MX])
    site.publish(tlsa(site.authority.certificate, 2))
    await refused(site, site.show(own, site.authority.certificate, private=private))


async def test_an_authority_that_is_not_shown_proves_nothing(site: Site) -> None:
    site.publish(tlsa(site.authority.certificate, 2))
    await refused(site, site.show())


async def test_a_certificate_of_somebody_else_signs_nothing(site: Site) -> None:
    evil = Authority("evil")
    _, evil.certificate = site.authority.issue(["customer.example"])  # a certificate that is no authority's
    evil.name = evil.certificate.subject
    private, forged = evil.issue([MX])
    site.publish(tlsa(site.authority.certificate, 2))
    await refused(site, site.show(forged, evil.certificate, site.authority.certificate, private=private))


async def test_usages_are_not_exchanged(site: Site) -> None:
    site.publish(tlsa(site.authority.certificate, 3), tlsa(site.certificate, 2))
    await refused(site, site.show(site.certificate, site.authority.certificate))


async def test_a_host_without_tls_gets_nothing(site: Site) -> None:
    said = await refused(site, SmtpPeer(host=PEER))
    assert b"it offers no TLS" in said


@pytest.mark.parametrize("answer", [b"454 no\r\n", b"220 go\r\n250 injected\r\n"])
async def test_a_refused_or_tampered_starttls_gets_nothing(site: Site, answer: bytes) -> None:
    context = context_of(site.path, site.private, [site.certificate])
    await refused(site, SmtpPeer({"STARTTLS": answer}, capabilities=STARTTLS, tls=context, host=PEER))


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED])
async def test_records_that_cannot_be_looked_up_are_no_reason_to_do_without(site: Site, fault: Fault) -> None:
    site.publish(fault=fault)
    await refused(site, site.show())


# -- records that nobody can use


UNUSABLE = [
    Tlsa(0, 1, 1, b"x" * 32),
    Tlsa(1, 1, 1, b"x" * 32),
    Tlsa(3, 2, 1, b"x" * 32),
    Tlsa(3, 1, 3, b"x" * 32),
    Tlsa(3, 1, 1, b"x" * 31),
    Tlsa(3, 1, 2, b"x" * 32),
    Tlsa(2, 0, 0, b""),
    Tlsa(255, 255, 255, b"x"),
]


@pytest.mark.parametrize("record", UNUSABLE)
async def test_records_that_nobody_can_use_still_forbid_clear_text(site: Site, record: Tlsa) -> None:
    site.publish(record)
    await refused(site, SmtpPeer(host=PEER))
    with site.show() as peer:
        assert (await site.deliver(peer)).startswith(b"K")
    assert peer.sessions[0].tls
    with site.show() as peer:
        assert (await site.deliver(peer, make_plugin(Sts))).startswith(b"Z")  # it proves nothing


def test_what_cannot_be_compared_is_not_usable() -> None:
    assert not any(is_usable(record) for record in UNUSABLE)


# -- the way to the records


@pytest.mark.parametrize("name", [DOMAIN, MX, "_tcp"])
async def test_one_unsigned_link_and_nothing_is_asked_for(site: Site, name: str) -> None:
    site.publish(Tlsa(3, 1, 1, b"x" * 32))
    peer = SmtpPeer(host=PEER)
    site.dns.insecure = {f"_{peer.port}._tcp.{MX}" if name == "_tcp" else name}
    with peer:
        assert (await site.deliver(peer)).startswith(b"K")
    asked = [query for query in site.dns.queries if query[1] == "TLSA"]
    assert bool(asked) == (name == "_tcp")


async def test_an_unsigned_host_may_have_broken_name_servers(site: Site) -> None:
    site.publish(fault=Fault.SERVFAIL)
    site.dns.insecure = {MX}
    with SmtpPeer(host=PEER) as peer:
        assert (await site.deliver(peer)).startswith(b"K")


async def test_a_domain_without_mx_is_its_own_host(site: Site) -> None:
    site.publish(tlsa(site.certificate))
    site.dns.zone = {DOMAIN: [("A", PEER)]}
    with site.show() as peer:
        assert (await site.deliver(peer, make_plugin(Sts), base=DOMAIN)).startswith(b"K")


async def test_a_relay_of_the_administrator_is_proved_as_well(site: Site) -> None:
    site.publish(tlsa(site.certificate))
    with site.show() as peer:
        assert (await site.deliver(peer, make_plugin(Sts), relay=MX.encode())).startswith(b"K")
    await refused(site, SmtpPeer(host=PEER), relay=MX.encode())


async def test_signed_aliases_lead_to_the_records_of_their_last_name(site: Site) -> None:
    site.publish(tlsa(site.certificate))
    site.dns.zone |= {MX: [("CNAME", "real.example")], "real.example": [("A", PEER)]}
    with site.show() as peer:
        assert (await site.deliver(peer, make_plugin(Sts), base="real.example")).startswith(b"K")


@pytest.mark.parametrize("insecure", [set(), {"real.example"}])
async def test_else_the_records_of_the_alias_count(site: Site, insecure: set[str]) -> None:
    site.publish(tlsa(site.certificate))
    site.dns.zone |= {MX: [("CNAME", "real.example")], "real.example": [("A", PEER)]}
    site.dns.insecure = insecure
    with site.show() as peer:
        assert (await site.deliver(peer, make_plugin(Sts))).startswith(b"K")


async def test_the_host_is_asked_for_the_name_of_its_records(site: Site) -> None:
    asked: list[str | None] = []
    context = context_of(site.path, site.private, [site.certificate])
    context.sni_callback = lambda layer, name, _: asked.append(name)  # type: ignore[assignment]
    with SmtpPeer(capabilities=STARTTLS, tls=context, host=PEER) as peer:
        assert (await site.deliver(peer)).startswith(b"K")
    assert asked == [MX]


async def test_the_next_host_is_tried(site: Site) -> None:
    good = "good.dst.example"
    private, certificate = site.authority.issue([good])
    with site.show(certificate, private=private) as peer:
        site.publish(Tlsa(3, 1, 1, b"x" * 32))
        site.dns.zone |= {
            DOMAIN: [("MX", (10, MX)), ("MX", (20, good))],
            good: [("A", PEER)],
            f"_{peer.port}._tcp.{good}": [("TLSA", tlsa(certificate))],
        }
        assert (await site.deliver(peer)).startswith(b"K")
    assert len(peer.sessions) == 2


# -- settings


async def test_without_a_resolver_that_is_trusted_nothing_is_looked_up(site: Site) -> None:
    with SmtpPeer(host=PEER) as peer:
        assert (await site.deliver(peer, trusted_resolver=False)).startswith(b"K")
    assert not [query for query in site.dns.queries if query[1] == "TLSA"]
    assert make_plugin(Dane).check()
    assert not make_plugin(Dane, trusted_resolver=True).check()


async def test_an_ignored_host_gets_its_mail_as_ever(site: Site) -> None:
    with SmtpPeer(host=PEER) as peer:
        assert (await site.deliver(peer, ignored_hosts=(MX,))).startswith(b"K")


def test_explain_says_what_will_be_wanted() -> None:
    plugin = make_plugin(Dane, trusted_resolver=True)
    delivery = Delivery("remote", 1, b"", [b"a@dst.example"], b"dst.example")
    assert plugin.remote_explain(delivery, MX.encode())[0].startswith("if mx.dst.example has signed TLSA records")
    assert plugin.remote_explain(delivery, b"192.0.2.1") == []


# -- hostile certificates


@given(st.lists(st.binary(max_size=200), max_size=12), st.sampled_from([2, 3]))
def test_any_octets_for_a_chain_prove_nothing(chain: Sequence[bytes], usage: int) -> None:
    assert not proves([Tlsa(usage, 1, 1, b"x" * 32)], chain, [MX])


CERTIFICATE = Authority().certificate.public_bytes(Encoding.DER)


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(1, 255))
def test_a_damaged_certificate_is_not_the_one_that_was_meant(at: int, change: int) -> None:
    damaged = CERTIFICATE[:at] + bytes([CERTIFICATE[at] ^ change]) + CERTIFICATE[at + 1 :]
    record = Tlsa(3, 0, 1, hashlib.sha256(CERTIFICATE).digest())
    assert proves([record], [CERTIFICATE], [])
    assert not proves([record], [damaged], [])
    assert not proves([Tlsa(2, 0, 1, record.data)], [damaged, CERTIFICATE], [MX])


class TestConformance(Conformance):
    plugin = Dane
    settings: ClassVar = {"trusted_resolver": True}
