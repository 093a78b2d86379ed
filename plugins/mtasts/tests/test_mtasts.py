"""mtasts: to whom mail goes, over real TLS, and what becomes of a policy when somebody takes it away."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pluq import Delivery, Plugin, hook
from pluq.config import Home
from pluq.dns import Resolver
from pluq.errors import ConfigError
from pluq.remote.route import Route
from pluq.testing.certificates import Authority, context_of
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.remote_home import WIRE, RemoteHome, make_job
from pluq.testing.smtp_peer import SmtpPeer
from pluq_mtasts import NO_AUTHORITIES, MtaSts
from pluq_mtasts.commands import look
from pluq_mtasts.fetch import MAX_ANSWER, Fetcher
from pluq_mtasts.policies import FAILURE_SECONDS, REFRESH_SECONDS
from pluq_tls import Tls

DOMAIN = "dst.example"
MX = "mx.dst.example"
PEER = "127.0.0.2"  # not 127.0.0.1, which is this host itself: mail for it would loop
NOW = 1_800_000_000.0
STARTTLS = [b"PIPELINING"]


def policy(mode: str = "enforce", mx: str = MX, max_age: int = 604800) -> bytes:
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {max_age}\r\n".encode()


def answer(body: bytes, status: str = "200 OK", kind: str = "text/plain", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class Web:
    """An HTTPS server with one answer to everything. `answer` may be changed; None hangs."""

    def __init__(self, context: ssl.SSLContext, said: bytes | None) -> None:
        self.context = context
        self.answer = said
        self.requests: list[bytes] = []

    async def open(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        self.port: int = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        if self.answer is None:
            await reader.read()
        else:
            writer.write(self.answer)
        writer.close()

    async def close(self) -> None:
        self.server.close()
        await self.server.wait_closed()


class RouteTo(Plugin[Any]):
    """DNS decides on the hosts, the test on the port."""

    name = "routeto"
    port = 0
    relay = False

    @hook
    def remote_route(self, delivery: Delivery) -> Route:
        return Route(delivery.host, self.port, relay=self.relay)


class Site:
    """A home, its DNS, a web server, and the plugin."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = RemoteHome(path)
        (path / "state" / "remote").mkdir(parents=True)
        self.authority = Authority()
        (path / "ca.pem").write_text(self.authority.pem)
        self.dns = FakeDns(ttl=0)
        self.zone(record="v=STSv1; id=1;")
        self.web = Web(self.authority.server_context(path, ["mta-sts." + DOMAIN]), answer(policy()))
        self.now = NOW
        self.log: list[str] = []

    def zone(self, record: Any = None, mx: str = MX) -> None:
        """Publish a TXT record (a Fault fails; None: no record) and an exchanger."""
        texts = record if isinstance(record, Fault) else [("TXT", record)] if record else []
        self.dns.zone = {
            DOMAIN: [("MX", (10, mx))],
            mx: [("A", PEER)],
            f"_mta-sts.{DOMAIN}": texts,
            f"mta-sts.{DOMAIN}": [("A", "127.0.0.1")],
        }

    async def plugin(self, **settings: Any) -> MtaSts:
        """Return the plugin as after a restart: with nothing but what is on disk."""
        made = make_plugin(
            MtaSts,
            home=self.home.home,
            role="remote",
            resolver=lambda: self.resolver,
            log=self.log.append,
            **{"authorities": "ca.pem", **settings},
        )
        made.clock = lambda: self.now
        made.start()
        made.policies.fetcher.port = self.web.port
        return made

    async def deliver(self, peer: SmtpPeer, plugin: MtaSts | None = None, relay: bool = False) -> bytes:
        """Return what is reported of a message to the domain."""
        route = make_plugin(RouteTo)
        route.port, route.relay = peer.port, relay
        tls = make_plugin(Tls, home=self.home.home, role="remote")
        tls.start()
        plan = plan_of(route, plugin or await self.plugin(), tls)
        records = await self.home.deliverer(plan=plan, resolver=self.resolver).deliver(make_job())
        await asyncio.sleep(0)  # the loop closes connections at its next turn
        return records[-1]

    def peer(self, *names: str, days: int = 30, **settings: Any) -> SmtpPeer:
        context = self.authority.server_context(self.path, names or [MX], days)
        return SmtpPeer(capabilities=STARTTLS, tls=context, host=PEER, **settings)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    with made.dns:
        made.resolver = Resolver([made.dns.address], timeout=60.0, attempts=1)
        await made.web.open()
        yield made
        await made.web.close()
        await made.resolver.close()


# -- what enforce means


async def test_a_host_that_the_policy_names_and_that_proves_its_name_gets_the_message(site: Site) -> None:
    with site.peer() as peer:
        assert (await site.deliver(peer)).startswith(b"K")
    assert peer.sessions[0].tls
    assert peer.messages == [WIRE]
    assert site.web.requests[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.dst.example\r\n")


async def test_a_certificate_for_another_name_gets_nothing(site: Site) -> None:
    with site.peer("evil.example") as peer:
        said = await site.deliver(peer)
    assert said.startswith(b"Z")
    assert b"MTA-STS policy of dst.example" in said
    assert peer.messages == []


async def test_a_certificate_that_has_ended_gets_nothing(site: Site) -> None:
    with site.peer(days=-1) as peer:
        assert (await site.deliver(peer)).startswith(b"Z")
    assert peer.messages == []


async def test_a_certificate_of_an_unknown_authority_gets_nothing(site: Site) -> None:
    with SmtpPeer(tls=Authority().server_context(site.path, [MX]), host=PEER) as peer:
        assert (await site.deliver(peer)).startswith(b"Z")
    assert peer.messages == []


async def test_a_name_that_stands_only_in_the_common_name_is_no_proof(site: Site) -> None:
    private, certificate = site.authority.issue(["other.example"], common_name=MX)
    context = context_of(site.path, private, [certificate])
    with SmtpPeer(tls=context, host=PEER) as peer:
        assert (await site.deliver(peer)).startswith(b"Z")
    assert peer.messages == []


async def test_a_host_without_tls_gets_nothing(site: Site) -> None:
    with SmtpPeer(host=PEER) as peer:
        said = await site.deliver(peer)
    assert said.startswith(b"Z")
    assert b"offers no TLS" in said
    assert peer.messages == []


async def test_a_host_that_takes_its_offer_back_gets_nothing(site: Site) -> None:
    with site.peer(answers={"STARTTLS": b"454 no\r\n"}) as peer:
        assert (await site.deliver(peer)).startswith(b"Z")
    assert peer.messages == []


async def test_replies_smuggled_in_before_tls_get_nothing(site: Site) -> None:
    with site.peer(answers={"STARTTLS": b"220 go\r\n250 injected\r\n"}) as peer:
        assert (await site.deliver(peer)).startswith(b"Z")
    assert peer.messages == []


async def test_a_host_that_the_policy_does_not_name_gets_nothing(site: Site) -> None:
    site.zone("v=STSv1; id=1;", mx="mx.evil.example")
    with site.peer("mx.evil.example") as peer:
        said = await site.deliver(peer)
    assert b"mx.evil.example is not one of its exchangers" in said
    assert peer.messages == []


@pytest.mark.parametrize("mode", ["testing", "none"])
async def test_a_policy_that_is_not_in_force_stops_nothing(site: Site, mode: str) -> None:
    site.web.answer = answer(policy(mode, "elsewhere.example"))
    with site.peer("evil.example") as peer:
        assert (await site.deliver(peer)).startswith(b"K")
    assert any("would have failed" in line for line in site.log) == (mode == "testing")


async def test_a_route_of_the_administrator_is_his_own_business(site: Site) -> None:
    site.dns.zone[DOMAIN] = [("A", PEER)]
    with SmtpPeer(host=PEER) as peer:
        assert (await site.deliver(peer, relay=True)).startswith(b"K")
    assert site.web.requests == []


async def test_an_ignored_domain_is_treated_as_any_other(site: Site) -> None:
    with SmtpPeer(host=PEER) as peer:
        assert (await site.deliver(peer, await site.plugin(ignored_domains=(DOMAIN,)))).startswith(b"K")


async def test_a_domain_without_a_policy_is_delivered_to_as_ever(site: Site) -> None:
    site.zone()
    with SmtpPeer(host=PEER) as peer:
        assert (await site.deliver(peer)).startswith(b"K")
    assert site.web.requests == []


# -- what is kept


@pytest.mark.parametrize("record", [None, Fault.SERVFAIL, "v=STSv1; id=2;", "v=spf1 -all"])
async def test_a_policy_holds_for_its_time_whatever_happens_to_dns_and_web(site: Site, record: Any) -> None:
    assert await (await site.plugin()).policies.find(DOMAIN) is not None
    site.zone(record)
    site.web.answer = answer(b"gone", "404 Not Found")
    site.now += 604800 - 1
    restarted = await site.plugin()
    with SmtpPeer(host=PEER) as peer:
        assert (await site.deliver(peer, restarted)).startswith(b"Z")
        site.now += 1
        assert (await site.deliver(peer, restarted)).startswith(b"K")


async def test_a_new_id_brings_the_new_policy(site: Site) -> None:
    plugin = await site.plugin()
    assert (await plugin.policies.find(DOMAIN)).mode == "enforce"
    site.web.answer = answer(policy("none"))
    assert (await plugin.policies.find(DOMAIN)).mode == "enforce"
    site.zone("v=STSv1; id=2;")
    assert (await plugin.policies.find(DOMAIN)).mode == "none"
    assert (await (await site.plugin()).policies.find(DOMAIN)).mode == "none"
    assert len(site.web.requests) == 2


async def test_an_old_policy_is_fetched_again_although_its_id_is_the_same(site: Site) -> None:
    plugin = await site.plugin()
    await plugin.policies.find(DOMAIN)
    site.now += REFRESH_SECONDS - 1
    await plugin.policies.find(DOMAIN)
    assert len(site.web.requests) == 1
    site.now += 1
    await plugin.policies.find(DOMAIN)
    assert len(site.web.requests) == 2


async def test_a_fetch_that_failed_is_not_repeated_at_once(site: Site) -> None:
    plugin = await site.plugin()
    site.web.answer = answer(b"", "500 Oops")
    for _ in range(3):
        assert await plugin.policies.find(DOMAIN) is None
    assert len(site.web.requests) == 1
    site.now += FAILURE_SECONDS
    site.web.answer = answer(policy())
    assert await plugin.policies.find(DOMAIN) is not None


async def test_deliveries_at_the_same_time_fetch_once(site: Site) -> None:
    plugin = await site.plugin()
    found = await asyncio.gather(*(plugin.policies.find(DOMAIN) for _ in range(5)))
    assert all(one is not None and one.mode == "enforce" for one in found)
    assert len(site.web.requests) == 1


async def test_a_damaged_file_counts_as_none_and_is_replaced(site: Site) -> None:
    await (await site.plugin()).policies.find(DOMAIN)
    file = site.path / "state" / "remote" / "mtasts" / DOMAIN
    whole = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    for damaged in (b"", whole[:-1], whole + b"x", whole.replace(b"STSv1", b"STSv2"), b"\xff" * 200, b"1 1 1"):
        file.write_bytes(damaged)
        assert (await site.plugin()).policies.known(DOMAIN) is None
    assert (await (await site.plugin()).policies.find(DOMAIN)).mode == "enforce"
    assert file.read_bytes() == whole


# -- hostile web servers

BAD_ANSWERS = {
    "redirect": answer(b"", "301 Moved", more="Location: https://mta-sts.dst.example/other\r\n"),
    "no policy": answer(b"hello"),
    "html": answer(policy(), kind="text/html"),
    "no kind": b"HTTP/1.1 200 OK\r\n\r\n" + policy(),
    "garbage": b"\xff\x00" * 500,
    "nothing": b"",
    "cut short": answer(policy())[:-10],
    "endless header": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3000,
    "long line": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000,
    "too long": answer(policy() + b"#" * MAX_ANSWER),
    "long policy": answer(policy() + b"#" * 65536),
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "bad chunks": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 30,
    "early": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_what_is_no_policy_is_none(site: Site, name: str) -> None:
    site.web.answer = BAD_ANSWERS[name]
    plugin = await site.plugin()
    assert await plugin.policies.find(DOMAIN) is None
    assert len(site.log) == 1
    assert "cannot be fetched" in site.log[0]


async def test_chunks_are_put_together(site: Site) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (policy()[:7], policy()[7:])) + b"0\r\n\r\n"
    site.web.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    )
    assert await (await site.plugin()).policies.find(DOMAIN) is not None


@pytest.mark.parametrize("names", [["dst.example"], ["evil.example"], ["*.mta-sts.dst.example"]])
async def test_a_web_server_that_is_somebody_else_is_not_believed(site: Site, names: list[str]) -> None:
    await site.web.close()
    site.web = Web(site.authority.server_context(site.path, names), answer(policy()))
    await site.web.open()
    assert await (await site.plugin()).policies.find(DOMAIN) is None
    assert site.web.requests == []


async def test_a_web_server_that_hangs_is_given_up(site: Site) -> None:
    site.web.answer = None
    plugin = await site.plugin()
    plugin.policies.fetcher.seconds = 1.0
    assert await plugin.policies.find(DOMAIN) is None
    assert "no answer in time" in site.log[0]


# -- what the administrator sees


async def test_explain_says_what_will_be_wanted_of_a_host(site: Site) -> None:
    plugin = await site.plugin()
    delivery = Delivery("remote", 1, b"", [b"joe@" + DOMAIN.encode()], DOMAIN.encode())
    assert plugin.remote_explain(delivery, MX.encode()) == []
    await plugin.policies.find(DOMAIN)
    assert plugin.remote_explain(delivery, MX.encode())[0].startswith("TLS or nothing")
    assert plugin.remote_explain(delivery, b"mx.evil.example")[0].startswith("never")


async def test_the_command_shows_a_policy_and_which_exchangers_it_forgets(site: Site) -> None:
    context = ssl.create_default_context(cadata=site.authority.pem)
    fetcher = Fetcher(lambda: context, site.web.port)
    status, lines = await look(DOMAIN, site.resolver, fetcher)
    assert (status, lines) == (0, ["id: 1", "mode: enforce", "max_age: 604800 seconds", f"mx: {MX}", f"{MX}: named"])
    site.web.answer = answer(policy(mx="*.elsewhere.example"))
    assert (await look(DOMAIN, site.resolver, fetcher))[1][-1] == f"{MX}: NOT NAMED"
    site.zone()
    assert (await look(DOMAIN, site.resolver, fetcher))[0] == 1


def test_authorities_that_cannot_be_read_are_an_error_of_the_configuration(tmp_path: Path) -> None:
    home = RemoteHome(tmp_path).home
    with pytest.raises(ConfigError):
        make_plugin(MtaSts, home=home, role="remote", authorities="nothing.pem").check()


def test_a_system_without_authorities_is_an_error_of_the_configuration(monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "state" / "remote").mkdir(parents=True)
    plugin = make_plugin(MtaSts, home=Home(str(tmp_path)), role="remote")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    assert plugin.check() == [NO_AUTHORITIES]
    monkeypatch.setenv("SSL_CERT_DIR", str(Path(__file__).parent))
    assert plugin.check() == []


def test_a_home_without_a_place_for_policies_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    plugin = make_plugin(MtaSts, home=Home(str(tmp_path)), role="remote")
    assert plugin.check()[-1] == f"{tmp_path}/state/remote: not there: run `pluq init`"


class TestConformance(Conformance):
    plugin = MtaSts

    def make(self) -> MtaSts:
        plugin = make_plugin(MtaSts)
        plugin.start = lambda: None  # type: ignore[method-assign]  # it has a folder in the role remote alone
        return plugin
