"""Deliveries to a real (scripted) server: what it sees, and what is reported when something goes wrong at any step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pluq.dns import Resolver
from pluq.errors import TemporaryFailure
from pluq.hookspecs import Defer, Delivery, Disconnect, Reject
from pluq.plan import Plan
from pluq.remote import pool as pools
from pluq.remote import report
from pluq.remote.deliver import Deliverer, Job
from pluq.remote.letter import WHOLE_BYTES, Letter
from pluq.remote.pool import Pool
from pluq.remote.route import Route
from pluq.remote.tcpto import parse_records
from pluq.testing.dns import FakeDns
from pluq.testing.remote_home import MESSAGE, WIRE, RemoteHome
from pluq.testing.smtp_peer import Fault, SmtpPeer

MakeJob = Callable[..., Job]
LIMIT = 20.0


@pytest.fixture
def no_waiting_for_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first delivery already counts as a busy destination."""
    monkeypatch.setattr(pools, "BURST", 1)


async def deliver(deliverer: Deliverer, job: Job) -> list[bytes]:
    async with asyncio.timeout(LIMIT):
        return await deliverer.deliver(job)


async def start(deliverer: Deliverer, job: Job) -> bytes:
    """Deliver by the resident's short way; return the report."""
    ended: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
    deliverer.start(job, ended.set_result)
    async with asyncio.timeout(LIMIT):
        return report.final_report(await ended)


async def test_a_lone_message_is_sent_as_by_qmail_remote(remote_home: RemoteHome, job: MakeJob) -> None:
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        records = await deliver(remote_home.deliverer(), job())
        await quit_of(peer)
    assert records == [b"r", b"K127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 taken\n"]
    assert peer.sessions[0].commands == [
        b"HELO me.example.org",
        b"MAIL FROM:<s@src.example>",
        b"RCPT TO:<r@dst.example>",
        b"DATA",
        b"QUIT",
    ]
    assert peer.messages == [WIRE]


async def quit_of(peer: SmtpPeer, sessions: int = 1) -> None:
    """Wait until the last session has got its QUIT: the client does not wait for the answer."""
    async with asyncio.timeout(LIMIT):
        while len(peer.sessions) < sessions or peer.sessions[-1].commands[-1:] != [b"QUIT"]:  # noqa: ASYNC110 -- a thread
            await asyncio.sleep(0.005)


DIED = b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"
DUPLICATE = b"ZConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n"


@pytest.mark.parametrize(
    ("step", "last"),
    [("CONNECT", DIED), ("HELO", DIED), ("MAIL", DIED), ("RCPT", DIED), ("DATA", DIED), ("MESSAGE", DUPLICATE)],
)
@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.SILENCE])
async def test_a_peer_that_goes_away_or_silent_is_reported(
    remote_home: RemoteHome, job: MakeJob, step: str, last: bytes, fault: Fault
) -> None:
    remote_home.control("timeoutremote", "1\n")
    with SmtpPeer({step: fault}) as peer:
        remote_home.relay_to(peer)
        records = await deliver(remote_home.deliverer(), job())
    assert records[-1] == last


async def test_nobody_listens(remote_home: RemoteHome, job: MakeJob) -> None:
    remote_home.control("smtproutes", ":127.0.0.1:1\n")
    assert await deliver(remote_home.deliverer(), job()) == [report.NO_CONNECTION]


async def test_control_files_that_cannot_be_read(remote_home: RemoteHome, job: MakeJob) -> None:
    (remote_home.path / "control/me").unlink()
    assert await deliver(remote_home.deliverer(), job()) == [report.BAD_CONTROLS]


async def test_smtproutes_are_read_again_when_they_change(
    remote_home: RemoteHome, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pluq.remote.settings.LOOK_SECONDS", 0.0)
    deliverer = remote_home.deliverer()
    with SmtpPeer() as first, SmtpPeer() as second:
        remote_home.relay_to(first)
        await deliver(deliverer, job())
        remote_home.relay_to(second)
        await deliver(deliverer, job())
    assert (len(first.messages), len(second.messages)) == (1, 1)


@pytest.mark.parametrize("address", [b"r@dst.example\nRCPT TO:<x@y>", b"r\r@dst.example"])
async def test_an_address_cannot_carry_commands(remote_home: RemoteHome, job: MakeJob, address: bytes) -> None:
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        assert await deliver(remote_home.deliverer(), job(recipient=address)) == [report.BROKEN_ADDRESS]
        assert await deliver(remote_home.deliverer(Pool()), job(sender=address)) == [report.BROKEN_ADDRESS]
    assert peer.sessions == []


@pytest.mark.parametrize("size", [0, 1, WHOLE_BYTES - 1, WHOLE_BYTES, WHOLE_BYTES + 1, 3_000_000])
async def test_messages_of_any_size_arrive_whole(remote_home: RemoteHome, size: int) -> None:
    content = (b".line of text\r\nbare\rcr\n" * (size // 20 + 1))[:size] + b"\n"
    file = remote_home.path / "message"
    file.write_bytes(content)
    letter = Letter.from_descriptor(_open(file), len(content))
    assert isinstance(letter.content, bytes) is (len(content) <= WHOLE_BYTES)
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        job = Job(1, b"s@x", [b"r@y"], b"y", letter)
        records = await deliver(remote_home.deliverer(), job)
        letter.close()
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    wire = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)
    assert records[-1].startswith(b"K")
    assert peer.messages == [wire + b".\r\n"]


def _open(file: Path) -> int:
    import os

    return os.open(file, os.O_RDONLY)


async def test_a_partial_last_line_is_refused_and_nothing_arrives(remote_home: RemoteHome, job: MakeJob) -> None:
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        records = await deliver(remote_home.deliverer(), job(b"no end"))
    assert records == [b"r", report.PARTIAL_LINE]
    assert peer.messages == []


async def test_a_host_that_timed_out_twice_is_left_alone(remote_home: RemoteHome, job: MakeJob) -> None:
    when = int(time.time()) - 300
    remote_home.tcpto.write_bytes(bytes((127, 0, 0, 1, 2, 0, 0, 0)) + when.to_bytes(4, "little") + bytes(4))
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        assert await deliver(remote_home.deliverer(), job()) == [report.NO_CONNECTION]
        assert peer.sessions == []


async def test_a_connect_timeout_is_remembered_and_a_connection_forgives_it(
    remote_home: RemoteHome, job: MakeJob
) -> None:
    remote_home.control("timeoutconnect", "0\n")
    remote_home.control("smtproutes", ":192.0.2.1\n")  # TEST-NET: nobody answers, or there is no way at all
    await deliver(remote_home.deliverer(), job())
    seen = [(one.address, one.count) for one in parse_records(remote_home.tcpto.read_bytes()) if one.count]
    assert seen in ([("192.0.2.1", 1)], [])
    remote_home.tcpto.write_bytes(bytes((127, 0, 0, 1, 1, 0, 0, 0)) + bytes(8))
    remote_home.control("timeoutconnect", "60\n")
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        await deliver(remote_home.deliverer(), job())
    assert not any(one.count for one in parse_records(remote_home.tcpto.read_bytes()))


# -- DNS


async def test_hosts_are_found_by_dns_and_never_ourselves(remote_home: RemoteHome, job: MakeJob) -> None:
    zone = {
        "dst.example": [("MX", (10, "us.dst.example")), ("MX", (20, "backup.dst.example"))],
        "us.dst.example": [("A", "127.0.0.1")],
        "backup.dst.example": [("A", "192.0.2.1")],
    }
    with FakeDns(zone) as server:
        resolver = Resolver([server.address])
        assert await deliver(remote_home.deliverer(resolver=resolver), job()) == [report.OURSELVES]
        elsewhere = job(recipient=b"r@missing.example")
        assert await deliver(remote_home.deliverer(resolver=resolver), elsewhere) == [
            report.no_such_host(b"missing.example")
        ]
        await resolver.close()


# -- connections that are kept


async def test_a_busy_destination_gets_ehlo_pipelining_and_one_connection(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    pool = Pool()
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        deliverer = remote_home.deliverer(pool)
        for _ in range(3):
            assert (await start(deliverer, job())).startswith(b"K")
        pool.close()
        await quit_of(peer)
    assert len(peer.sessions) == 1
    assert peer.messages == [WIRE] * 3
    assert peer.sessions[0].commands[:2] == [b"EHLO me.example.org", b"MAIL FROM:<s@src.example>"]
    assert b"RSET" not in peer.sessions[0].commands


async def test_only_a_burst_keeps_connections(remote_home: RemoteHome, job: MakeJob) -> None:
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        pool = Pool()
        deliverer = remote_home.deliverer(pool)
        for _ in range(4):
            await start(deliverer, job())
        pool.close()
    greetings = [session.commands[0][:4] for session in peer.sessions]
    assert greetings == [b"HELO", b"HELO", b"EHLO"]
    assert peer.messages == [WIRE] * 4


async def test_a_refused_recipient_leaves_the_connection_good(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    with SmtpPeer({"RCPT": [b"550 no\r\n", None], "DATA": [b"503 no recipients\r\n", None]}) as peer:
        remote_home.relay_to(peer)
        pool = Pool()
        deliverer = remote_home.deliverer(pool)
        assert (await start(deliverer, job())).startswith(b"D127.0.0.1 does not like recipient.\n")
        assert (await start(deliverer, job())).startswith(b"K")
        pool.close()
    assert len(peer.sessions) == 1
    assert b"RSET" in peer.sessions[0].commands


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("fault", [Fault.CLOSE, b"421 4.3.2 going down\r\n"])
async def test_a_kept_connection_that_ends_early_is_replaced(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None, step: str, fault: Fault | bytes
) -> None:
    with SmtpPeer({step: [None, fault]}) as peer:
        remote_home.relay_to(peer)
        pool = Pool()
        deliverer = remote_home.deliverer(pool)
        assert (await start(deliverer, job())).startswith(b"K")
        assert (await start(deliverer, job())).startswith(b"K")
        pool.close()
    assert len(peer.sessions) == 2
    assert peer.messages == [WIRE] * 2


async def test_a_fresh_connection_that_ends_early_is_not_replaced(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    with SmtpPeer({"MAIL": b"421 go away\r\n"}) as peer:
        remote_home.relay_to(peer)
        text = await start(remote_home.deliverer(Pool()), job())
    assert text == b"ZConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 421 go away\n"
    assert len(peer.sessions) == 1


async def test_a_message_whose_final_dot_was_sent_is_never_sent_again(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    with SmtpPeer({"MESSAGE": [None, Fault.CLOSE]}) as peer:
        remote_home.relay_to(peer)
        deliverer = remote_home.deliverer(Pool())
        await start(deliverer, job())
        assert await start(deliverer, job()) == DUPLICATE
    assert len(peer.sessions) == 1


async def test_a_peer_that_speaks_out_of_turn_is_not_kept(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    with SmtpPeer({"MESSAGE": [b"250 taken\r\n250 and more\r\n"]}) as peer:
        remote_home.relay_to(peer)
        deliverer = remote_home.deliverer(Pool())
        assert (await start(deliverer, job())).startswith(b"K")
        assert (await start(deliverer, job())).startswith(b"K")
    assert len(peer.sessions) == 2


async def test_a_peer_that_takes_data_for_nobody_gets_no_message(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    with SmtpPeer({"RCPT": b"550 no\r\n"}) as peer:
        remote_home.relay_to(peer)
        text = await start(remote_home.deliverer(Pool()), job())
    assert text.startswith(b"D127.0.0.1 does not like recipient.\n")
    assert peer.messages == []


async def test_a_peer_without_ehlo_is_greeted_with_helo(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    with SmtpPeer(capabilities=None) as peer:
        remote_home.relay_to(peer)
        assert (await start(remote_home.deliverer(Pool()), job())).startswith(b"K")
    assert [command[:4] for command in peer.sessions[0].commands[:2]] == [b"EHLO", b"HELO"]


async def test_kept_connections_end_after_a_while(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        pool = Pool()
        deliverer = remote_home.deliverer(pool)
        await start(deliverer, job())
        monkeypatch.setattr(pools, "IDLE_SECONDS", -1.0)
        pool.sweep()
        await quit_of(peer)
        monkeypatch.setattr(pools, "MAX_MESSAGES", 1)
        await start(deliverer, job())
        await quit_of(peer, sessions=2)
        pool.close()


# -- plugins


def a_plan(**hooks: object) -> Plan:
    return Plan(hooks)


async def test_plugins_choose_envelope_route_parameters_and_outcome(remote_home: RemoteHome, job: MakeJob) -> None:
    async def envelope(delivery: object) -> None:
        delivery.sender = b"other@src.example"  # type: ignore[attr-defined]

    with SmtpPeer(capabilities=[b"SIZE 1000"]) as peer:

        async def route(delivery: object) -> Route:
            return Route(b"127.0.0.1", peer.port)

        async def params(delivery: object, connection: object) -> list[bytes]:
            assert connection.capabilities == {b"SIZE": b"1000"}  # type: ignore[attr-defined]
            return [b"SIZE=18"]

        async def message(delivery: object, message: object) -> None:
            message.prepend(b"X-Signed: yes")  # type: ignore[attr-defined]

        async def outcome(delivery: object, outcome: str, text: bytes) -> tuple[str, bytes]:
            return "Z", text.replace(b"taken", b"seen")

        plan = a_plan(
            remote_envelope=envelope,
            remote_route=route,
            remote_params=params,
            remote_message=message,
            remote_outcome=outcome,
        )
        records = await deliver(remote_home.deliverer(plan=plan), job())
    assert peer.sessions[0].commands[:2] == [b"EHLO me.example.org", b"MAIL FROM:<other@src.example> SIZE=18"]
    assert peer.messages == [b"X-Signed: yes\r\n" + WIRE]
    assert records[-1] == b"Z127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 seen\n"


@pytest.mark.parametrize("hook", ["remote_policy", "remote_session", "remote_mail"])
@pytest.mark.parametrize(
    ("verdict", "record"),
    [
        (Reject(text="no way"), b"Dno way (#5.7.1)\n"),
        (Defer(text="not now"), b"Znot now (#4.3.0)\n"),
        (Disconnect(Defer(enhanced=None, text=b"two\nlines\n")), b"Ztwo\nlines\n"),
        (Disconnect(), report.NO_CONNECTION),
    ],
)
async def test_a_verdict_of_a_plugin_is_the_report(
    remote_home: RemoteHome, job: MakeJob, hook: str, verdict: object, record: bytes
) -> None:
    async def decide(**given: object) -> object:
        return verdict

    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        assert await deliver(remote_home.deliverer(plan=a_plan(**{hook: decide})), job()) == [record]
    assert peer.messages == []


async def test_a_message_that_a_host_may_not_have_leaves_the_connection_to_others(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    async def decide(delivery: Delivery, connection: object) -> Reject | None:
        return Reject(text="not this one") if delivery.recipients == [b"no@dst.example"] else None

    pool = Pool()
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        deliverer = remote_home.deliverer(pool, plan=a_plan(remote_mail=decide))
        assert (await start(deliverer, job(recipient=b"no@dst.example"))) == b"Dnot this one (#5.7.1)\n"
        assert (await start(deliverer, job())).startswith(b"K")
        assert (await start(deliverer, job(recipient=b"no@dst.example"))) == b"Dnot this one (#5.7.1)\n"
        assert (await start(deliverer, job())).startswith(b"K")
        pool.close()
    assert len(peer.sessions) == 1
    assert peer.messages == [WIRE] * 2


async def test_a_plugin_that_fails_defers(remote_home: RemoteHome, job: MakeJob) -> None:
    async def fail(**given: object) -> None:
        raise TemporaryFailure("plugin x failed")

    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        for hook in ("remote_envelope", "remote_route", "remote_message"):
            records = await deliver(remote_home.deliverer(plan=a_plan(**{hook: fail})), job())
            assert records == [b"Zplugin x failed (#4.3.0)\n"], hook
    assert peer.messages == []


async def test_plugins_send_each_senders_mail_over_its_own_connection(
    remote_home: RemoteHome, job: MakeJob, no_waiting_for_bursts: None
) -> None:
    async def nothing(**given: object) -> None:
        return None

    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        pool = Pool()
        deliverer = remote_home.deliverer(pool, plan=a_plan(remote_session=nothing))
        for sender in (b"a@x", b"b@x", b"a@x"):
            assert (await deliver(deliverer, job(sender=sender)))[-1].startswith(b"K")
        pool.close()
    assert len(peer.sessions) == 2


def test_the_message_is_the_one_the_tests_expect() -> None:
    assert MESSAGE.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n") + b".\r\n" == WIRE
