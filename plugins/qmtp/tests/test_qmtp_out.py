"""QMTP to other hosts: real connections to a small server, and to our own session."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pluq import Plugin, hook
from pluq.dns import Answer as DnsAnswer
from pluq.dns import Mx, Status
from pluq.remote import report
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.ports import free_port
from pluq.testing.remote_home import MESSAGE, RemoteHome, make_job
from pluq.testing.smtp_peer import SmtpPeer
from pluq.wire.netstring import encode
from pluq.wire.qmtp import Answer, encode_package
from pluq_qmtp import PORT, Qmtp, read_routes, says_qmtp, with_port
from pluq_qmtp.client import records

LIMIT = 60.0
PACKAGE = encode_package(MESSAGE, b"s@src.example", [b"r@dst.example"])


class QmtpPeer:
    """Takes one package a connection; answers with `answer`, or goes away after `breaks_after` bytes."""

    def __init__(self, answer: bytes = encode(b"Kok 1 qp 2"), breaks_after: int | None = None) -> None:
        self.answer = answer
        self.breaks_after = breaks_after
        self.heard: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wanted = len(PACKAGE) if self.breaks_after is None else self.breaks_after
        try:
            self.heard.append(await reader.readexactly(wanted))
            writer.write(self.answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(peer: QmtpPeer):
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    async with server:
        yield peer


class Exchanger:
    """A resolver that knows one exchanger for every domain, at 127.0.0.9."""

    def __init__(self, preference: int) -> None:
        self.preference = preference

    async def lookup(self, name: Any, rdtype: str) -> DnsAnswer:
        found: tuple[Any, ...] = (Mx(self.preference, b"mx.dst.example"),) if rdtype == "MX" else ("127.0.0.9",)
        return DnsAnswer(b"mx.dst.example", rdtype, Status.FOUND, found, b"mx.dst.example")


@pytest.fixture
def home(tmp_path):
    return RemoteHome(tmp_path)


async def deliver(home: RemoteHome, *plugins: Plugin[Any], resolver: Any = None) -> list[bytes]:
    for plugin in plugins:
        if isinstance(plugin, Qmtp):
            plugin.start()
    async with asyncio.timeout(LIMIT):
        return await home.deliverer(plan=plan_of(*plugins), resolver=resolver).deliver(make_job())


def routed(port: int, **settings: Any) -> Qmtp:
    return make_plugin(Qmtp, role="remote", routes=(f".example:127.0.0.1:{port}",), **settings)


async def test_a_route_leads_to_qmtp_and_overrules_smtproutes(home):
    home.control("smtproutes", ":127.0.0.1:1\n")
    async with listening(QmtpPeer()) as peer:
        told = await deliver(home, routed(peer.port))
    assert told == [b"r", b"K127.0.0.1 accepted message.\nRemote host said: ok 1 qp 2\n"]
    assert peer.heard == [PACKAGE]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"Zlater (#4.3.0)", [b"s127.0.0.1 does not like recipient.\nRemote host said: later (#4.3.0)\n"]),
        (
            b"Dno such user (#5.1.1)",
            [b"h127.0.0.1 does not like recipient.\nRemote host said: no such user (#5.1.1)\n"],
        ),
    ],
)
async def test_a_refusal_is_the_recipients(home, answer, expected):
    async with listening(QmtpPeer(encode(answer))) as peer:
        told = await deliver(home, routed(peer.port))
    assert told == [*expected, b"DGiving up on 127.0.0.1.\n"]


@pytest.mark.parametrize("answer", [b"", b"3:K", b"garbage", encode(b"Xwhat")])
async def test_a_whole_message_without_an_answer_may_have_been_delivered(home, answer):
    async with listening(QmtpPeer(answer)) as peer:
        assert await deliver(home, routed(peer.port)) == [report.connection_died(b"127.0.0.1", critical=True)]


async def test_a_silent_server_is_not_waited_for_for_ever(home):
    async with listening(QmtpPeer(breaks_after=len(PACKAGE) + 1)) as peer:
        told = await deliver(home, routed(peer.port, timeout=1.0))
    assert told == [report.connection_died(b"127.0.0.1", critical=True)]


async def test_a_route_to_nobody_waits_and_speaks_no_smtp(home):
    assert await deliver(home, routed(free_port())) == [report.NO_CONNECTION]


async def test_mxps_tries_qmtp_first(home, monkeypatch):
    async with listening(QmtpPeer()) as peer:
        to_loopback(monkeypatch, peer.port)
        told = await deliver(home, make_plugin(Qmtp, role="remote"), resolver=Exchanger(12801))
    assert told[0] == b"r"
    assert peer.heard == [PACKAGE]


@pytest.mark.parametrize("breaks_after", [None, 5])
async def test_mxps_falls_back_to_smtp_while_nothing_was_accepted(home, monkeypatch, breaks_after):
    with SmtpPeer() as smtp:
        if breaks_after is None:
            to_loopback(monkeypatch, 1, smtp.port)
            told = await deliver(home, make_plugin(Qmtp, role="remote"), resolver=Exchanger(12801))
        else:
            async with listening(QmtpPeer(b"", breaks_after)) as peer:
                to_loopback(monkeypatch, peer.port, smtp.port)
                job = make_job(b"x" * 20_000_000 + b"\n")
                plugin = make_plugin(Qmtp, role="remote")
                plugin.start()
                async with asyncio.timeout(LIMIT):
                    deliverer = home.deliverer(plan=plan_of(plugin), resolver=Exchanger(12801))
                    told = await deliverer.deliver(job)
    assert told[0] == b"r"
    assert told[-1].startswith(b"K127.0.0.9 accepted message.")


@pytest.mark.parametrize(("preference", "settings"), [(10, {}), (12800, {}), (12802, {}), (12801, {"mxps": False})])
async def test_other_preferences_mean_smtp(home, monkeypatch, preference, settings):
    with SmtpPeer() as smtp:
        to_loopback(monkeypatch, 1, smtp.port)
        told = await deliver(home, make_plugin(Qmtp, role="remote", **settings), resolver=Exchanger(preference))
    assert told[0] == b"r"


class Watcher(Plugin[Any]):
    """Wants to see each session, as tls and auth do."""

    name = "watcher"

    @hook
    def remote_session(self, delivery, connection):
        return None


async def test_a_strangers_dns_does_not_lead_round_plugins_that_secure_sessions(home, monkeypatch):
    async with listening(QmtpPeer()) as peer:
        with SmtpPeer() as smtp:
            to_loopback(monkeypatch, peer.port, smtp.port)
            told = await deliver(home, make_plugin(Qmtp, role="remote"), Watcher(), resolver=Exchanger(12801))
        assert told[0] == b"r"
        assert peer.heard == []
        routed_told = await deliver(home, routed(peer.port), Watcher())
    assert routed_told[0] == b"r"
    assert peer.heard == [PACKAGE]


def to_loopback(monkeypatch, qmtp: int, smtp: int = 1) -> None:
    """Let connections to 127.0.0.9 arrive at 127.0.0.1: port 209 at `qmtp`, 25 at `smtp`."""
    from pluq.remote import connection
    from pluq_qmtp import client

    ports = {PORT: qmtp, 25: smtp}
    original = connection.connect

    async def redirected(sock: socket.socket, address: tuple[str, int]) -> None:
        await original(sock, ("127.0.0.1", ports.get(address[1], address[1])))

    monkeypatch.setattr(connection, "connect", redirected)
    monkeypatch.setattr(client, "connect", redirected)


def test_preferences_of_mxps():
    assert [one for one in range(20000) if says_qmtp(one)] == list(range(12801, 13056, 16))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"a.example:relay", b"a.example:relay:209"),
        (b"a.example:relay:4209", b"a.example:relay:4209"),
        (b":[2001:db8::1]", b":[2001:db8::1]:209"),
        (b":[2001:db8::1]:7", b":[2001:db8::1]:7"),
        (b"a.example:", b"a.example:"),
    ],
)
def test_a_route_without_a_port_has_qmtps(line, expected):
    assert with_port(line) == expected


def test_an_empty_relay_means_the_usual_way():
    assert read_routes(("a.example:", ":relay")).find(b"a.example") is None


def test_several_recipients_have_answers_of_their_own():
    told = records(b"192.0.2.1", [Answer("D", b"no"), Answer("K", b"ok\nnext")])
    assert [one[:1] for one in told] == [b"h", b"r", b"K"]
    assert told[-1] == b"K192.0.2.1 accepted message.\nRemote host said: ok next\n"


@pytest.mark.parametrize("value", ["", "0", "1"])
def test_a_variable_that_is_there_leaves_mxps_alone(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DISABLE_MXPS", value)
    one = make_plugin(Qmtp)
    one.start()
    assert not one.is_mxps
    monkeypatch.delenv("DISABLE_MXPS")
    one.start()
    assert one.is_mxps
