"""dane with a real validating resolver: unbound, and a zone that is signed, or was changed after that."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dns.dnssec
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pluq import Delivery, Plugin, hook
from pluq.dns import Resolver
from pluq.errors import TemporaryFailure
from pluq.remote.route import Route
from pluq.testing.certificates import Authority, context_of
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.ports import free_port
from pluq.testing.remote_home import RemoteHome, make_job
from pluq.testing.smtp_peer import SmtpPeer
from pluq_dane import Dane

pytestmark = pytest.mark.skipif(shutil.which("unbound") is None, reason="needs the Debian package unbound")

MX = "mx.dst.example"
PEER = "127.0.0.2"
PATIENCE = 60.0

ZONE = """
@ 60 IN SOA ns.dst.example. h.dst.example. 1 3600 600 86400 60
@ 60 IN NS ns
@ 60 IN MX 10 mx
ns 60 IN A 127.0.0.1
mx 60 IN A 127.0.0.2
_{port}._tcp.mx 60 IN TLSA 3 1 1 {digest}
"""
CONFIGURATION = """
server:
  interface: 127.0.0.1
  port: {port}
  do-daemonize: no
  use-syslog: no
  username: ""
  chroot: ""
  pidfile: ""
  directory: "{folder}"
  module-config: "validator iterator"
  trust-anchor: "dst.example. 60 IN DNSKEY {anchor}"
auth-zone:
  name: "dst.example."
  zonefile: "{folder}/zone"
  for-upstream: yes
  for-downstream: no
  fallback-enabled: no
remote-control:
  control-enable: no
"""


def signed_zone(port: int, digest: str) -> tuple[str, str]:
    """Return a zone with signatures, and the key that signed it."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = dns.dnssec.make_dnskey(key.public_key(), dns.dnssec.Algorithm.ECDSAP256SHA256, flags=257)
    zone = dns.zone.from_text(ZONE.format(port=port, digest=digest), origin="dst.example.", relativize=False)
    dns.dnssec.sign_zone(zone, keys=[(key, public)], add_dnskey=True, dnskey_ttl=60, lifetime=86400)
    return zone.to_text(), public.to_text()


class RouteTo(Plugin[Any]):
    """DNS decides on the hosts, the test on the port."""

    name = "routeto"
    port = 0

    @hook
    def remote_route(self, delivery: Delivery) -> Route:
        return Route(delivery.host, self.port, relay=False)


class Site:
    """A host with a certificate, and the resolver that knows its zone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = RemoteHome(path)
        authority = Authority()
        private, certificate = authority.issue([MX])
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.digest = hashlib.sha256(spki).hexdigest()
        self.private, self.certificate = private, certificate
        self.authority = authority

    async def resolve(self, zone: str, anchor: str) -> None:
        """Start unbound and wait until it answers."""
        port = free_port()
        (self.path / "zone").write_text(zone)
        configuration = CONFIGURATION.format(port=port, folder=self.path, anchor=anchor)
        (self.path / "unbound.conf").write_text(configuration)
        with (self.path / "unbound.log").open("wb") as log:
            self.unbound = subprocess.Popen(["unbound", "-c", str(self.path / "unbound.conf")], stderr=log)
        self.resolver = Resolver([("127.0.0.1", port)], timeout=2.0, attempts=2)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                await self.resolver.lookup("dst.example", "MX")
                return
            except TemporaryFailure:
                assert time.monotonic() < deadline, (self.path / "unbound.log").read_text()
                await asyncio.sleep(0.05)

    async def deliver(self, peer: SmtpPeer) -> bytes:
        route = make_plugin(RouteTo)
        route.port = peer.port
        dane = make_plugin(Dane, role="remote", resolver=lambda: self.resolver, trusted_resolver=True)
        dane.start()
        records = await self.home.deliverer(plan=plan_of(route, dane), resolver=self.resolver).deliver(make_job())
        await asyncio.sleep(0)  # the loop closes connections at its next turn
        return records[-1]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    made.unbound.terminate()
    made.unbound.wait()
    await made.resolver.close()


def peer_of(site: Site) -> SmtpPeer:
    return SmtpPeer(tls=context_of(site.path, site.private, [site.certificate]), host=PEER, port=free_port())


async def test_a_host_that_signed_dns_means_gets_the_message_and_another_does_not(site: Site) -> None:
    with peer_of(site) as peer:
        await site.resolve(*signed_zone(peer.port, site.digest))
        answer = await site.resolver.lookup("dst.example", "MX")
        assert answer.authentic
        assert (await site.deliver(peer)).startswith(b"K")
        assert peer.sessions[0].tls
        port = peer.port
    other = site.authority.server_context(site.path, [MX])
    with SmtpPeer(tls=other, host=PEER, port=port) as peer:
        assert b"matches none of them" in await site.deliver(peer)
    with SmtpPeer(host=PEER, port=port) as peer:
        assert b"offers no TLS" in await site.deliver(peer)
        assert peer.messages == []


async def test_records_changed_after_they_were_signed_get_nothing(site: Site) -> None:
    with peer_of(site) as peer:
        zone, anchor = signed_zone(peer.port, "00" * 32)
        await site.resolve(zone.replace("00" * 32, site.digest), anchor)
        assert b"they cannot be looked up" in await site.deliver(peer)
        assert peer.messages == []
