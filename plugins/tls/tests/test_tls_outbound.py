"""TLS to other hosts: used where it is offered, never given up where it is required."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest

from pluq.config import Home
from pluq.config.settings import resolve
from pluq.dns import Resolver
from pluq.errors import ConfigError
from pluq.testing.dns import FakeDns
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.remote_home import WIRE, RemoteHome, make_job
from pluq.testing.smtp_peer import SmtpPeer
from pluq_tls import Settings, Tls
from pluq_tls.selfsigned import make_certificate

NAME = "mx.dst.example"
NOW = datetime.datetime.now(datetime.UTC)
STARTTLS = [b"STARTTLS", b"PIPELINING"]


@pytest.fixture
def home(tmp_path: Path) -> RemoteHome:
    return RemoteHome(tmp_path)


def server_side(folder: Path, name: str = NAME) -> tuple[ssl.SSLContext, bytes]:
    """Return the context of a peer with a self-signed certificate, and that certificate."""
    pair = make_certificate([name], 30, NOW)
    (folder / "peer.pem").write_bytes(pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "peer.pem")
    return context, pair[pair.index(b"-----BEGIN CERT") :]


async def report(home: RemoteHome, peer: SmtpPeer, **settings: Any) -> bytes:
    """Return what is reported of a message to the peer, which is known by the name of its mail exchanger."""
    plugin = make_plugin(Tls, home=home.home, role="remote", **settings)
    plugin.start()
    home.control("smtproutes", f":{NAME}:{peer.port}\n")
    with FakeDns({NAME: [("A", "127.0.0.1")]}) as server:
        resolver = Resolver([server.address])
        records = await home.deliverer(plan=plan_of(plugin), resolver=resolver).deliver(make_job())
        await resolver.close()
    return records[-1]


def test_the_certificate_that_is_shown_may_be_named_by_a_whole_path(home: RemoteHome, tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(b"no certificate")
    plugin = make_plugin(Tls, home=home.home, role="remote", client_certificate=f"{tmp_path}/own.pem")
    with pytest.raises(ConfigError, match=r"own\.pem: no usable key and certificate"):
        plugin.start()


async def test_tls_is_used_where_it_is_offered_whoever_answers(home: RemoteHome, tmp_path: Path) -> None:
    context, _ = server_side(tmp_path, "somebody.else.example")
    with SmtpPeer(capabilities=STARTTLS, tls=context) as peer:
        assert (await report(home, peer)).startswith(b"K")
    commands = [line.split()[0] for line in peer.sessions[0].commands]
    assert commands[:4] == [b"EHLO", b"STARTTLS", b"EHLO", b"MAIL"]
    assert peer.messages == [WIRE]


async def test_a_host_without_tls_gets_the_message_in_clear(home: RemoteHome) -> None:
    with SmtpPeer() as peer:
        assert (await report(home, peer)).startswith(b"K")


async def test_where_tls_is_required_a_host_without_it_is_tried_again_later(home: RemoteHome) -> None:
    with SmtpPeer() as peer:
        said = await report(home, peer, required=True)
    assert said.startswith(b"Z")
    assert peer.messages == []


@pytest.mark.parametrize("answer", [b"454 no\r\n", b"220 go\r\n250 injected\r\n250 injected\r\n"])
async def test_a_refused_or_tampered_starttls_never_sends_in_clear_where_tls_is_required(
    home: RemoteHome, tmp_path: Path, answer: bytes
) -> None:
    context, _ = server_side(tmp_path)
    with SmtpPeer({"STARTTLS": answer}, capabilities=STARTTLS, tls=context) as peer:
        said = await report(home, peer, required=True)
    assert said.startswith(b"Z")
    assert peer.messages == []


async def test_a_host_with_a_file_must_prove_its_name(home: RemoteHome, tmp_path: Path) -> None:
    context, certificate = server_side(tmp_path)
    (home.path / "control" / "tlshosts").mkdir()
    home.control(f"tlshosts/{NAME}.pem", certificate.decode())
    with SmtpPeer(capabilities=STARTTLS, tls=context) as peer:
        assert (await report(home, peer)).startswith(b"K")
    other, _ = server_side(tmp_path, "evil.example")
    with SmtpPeer(capabilities=STARTTLS, tls=other) as peer:
        said = await report(home, peer)
    assert said.startswith(b"Z")
    assert f"control/tlshosts/{NAME}.pem".encode() in said
    assert peer.messages == []


async def test_a_listed_exception_gets_no_tls(home: RemoteHome, tmp_path: Path) -> None:
    context, _ = server_side(tmp_path)
    (home.path / "control" / "notlshosts").mkdir()
    home.control(f"notlshosts/{NAME}", "")
    with SmtpPeer(capabilities=STARTTLS, tls=context) as peer:
        assert (await report(home, peer)).startswith(b"K")
    assert b"STARTTLS" not in peer.sessions[0].commands


@pytest.mark.parametrize(
    ("text", "remembers"), [("1\n", True), ("2", True), ("0\n", False), ("no\n", False), ("yes\n", False)]
)
def test_notlshosts_auto_is_a_number(home: RemoteHome, text: str, remembers: bool) -> None:
    home.control("notlshosts_auto", text)
    assert resolve(Settings, Home(str(home.path)).controls, []).settings.no_tls_after_failure is remembers


async def test_a_broken_handshake_defers_and_can_be_remembered(home: RemoteHome, tmp_path: Path) -> None:
    (home.path / "control" / "notlshosts").mkdir()
    with SmtpPeer({"STARTTLS": b"220 go\r\n"}, capabilities=STARTTLS) as peer:
        home.control("timeoutremote", "2\n")
        assert (await report(home, peer, no_tls_after_failure=True)).startswith(b"Z")
    assert (home.path / "control" / "notlshosts" / NAME).exists()


async def test_only_listed_names_get_tls_where_the_list_is_exhaustive(home: RemoteHome, tmp_path: Path) -> None:
    context, _ = server_side(tmp_path)
    (home.path / "control" / "tlshosts").mkdir()
    home.control("tlshosts/exhaustivelist", "")
    with SmtpPeer(capabilities=STARTTLS, tls=context) as peer:
        assert (await report(home, peer)).startswith(b"K")
    assert b"STARTTLS" not in peer.sessions[0].commands
    plugin = make_plugin(Tls, home=home.home, role="remote")
    plugin.start()
    with SmtpPeer(capabilities=STARTTLS, tls=context) as peer:
        home.relay_to(peer)  # by address: there is no name that could be listed
        records = await home.deliverer(plan=plan_of(plugin)).deliver(make_job())
    assert records[-1].startswith(b"K")
    assert b"STARTTLS" in peer.sessions[0].commands
