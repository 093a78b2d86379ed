"""A connection before its message: lines, TLS, and what a peer must not get away with."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest

from pluq.errors import ProtocolError
from pluq.remote.connection import Connection, PeerLost
from pluq.remote.route import Route
from pluq.testing.smtp_peer import Fault, SmtpPeer

NAME = "peer.test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a self-signed certificate."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "cert.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(*form) + signed.public_bytes(serialization.Encoding.PEM))
    return file


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def connect(peer: SmtpPeer, patience: float = 10.0) -> Connection:
    route = Route(peer.host.encode(), peer.port)
    connection = await Connection.open(peer.host, b"peer.test", route, None, 10.0, patience)
    await connection.greet()
    await connection.hello(b"me.test", extended=True)
    return connection


async def finished(connection: Connection) -> None:
    connection.quit()
    await asyncio.sleep(0)


async def test_tls_is_started_and_ehlo_said_again(certificate: Path) -> None:
    with SmtpPeer(tls=server_side(certificate), capabilities=[b"SIZE 5"]) as peer:
        connection = await connect(peer)
        assert connection.capabilities == {b"SIZE": b"5", b"STARTTLS": b""}
        assert (await connection.command(b"STARTTLS")).code == 220
        await connection.start_tls(ssl.create_default_context(cafile=str(certificate)), NAME)
        assert connection.tls is not None
        assert connection.tls.version in ("TLSv1.2", "TLSv1.3")
        assert (await connection.command(b"NOOP")).code == 250
        await finished(connection)
    assert peer.sessions[0].tls
    assert peer.sessions[0].commands.count(b"EHLO me.test") == 2


async def test_a_certificate_that_is_not_trusted_ends_the_connection(certificate: Path) -> None:
    with SmtpPeer(tls=server_side(certificate)) as peer:
        connection = await connect(peer)
        await connection.command(b"STARTTLS")
        with pytest.raises(ssl.SSLError):
            await connection.start_tls(ssl.create_default_context(), NAME)
        await finished(connection)
    assert peer.messages == []


@pytest.mark.parametrize("injected", [b"220 go\r\n250 injected\r\n", b"220 go\r\n25"])
async def test_replies_that_were_sent_before_tls_are_refused(certificate: Path, injected: bytes) -> None:
    with SmtpPeer({"STARTTLS": injected}, tls=server_side(certificate)) as peer:
        connection = await connect(peer)
        await connection.command(b"STARTTLS")
        with pytest.raises(ProtocolError):
            await connection.start_tls(ssl.create_default_context(cafile=str(certificate)), NAME)
        assert connection.is_closed
        await asyncio.sleep(0)  # the loop closes it at its next turn; the peer waits for that


@pytest.mark.parametrize("line", [b"NOOP\r\nRSET", b"NOOP\n", b"\r"])
async def test_a_command_is_one_line(line: bytes) -> None:
    with SmtpPeer() as peer:
        connection = await connect(peer)
        with pytest.raises(ProtocolError):
            await connection.command(line)
        await finished(connection)


async def test_a_name_from_a_file_with_crlf_line_ends_is_said() -> None:
    with SmtpPeer() as peer:
        connection = await connect(peer)
        assert (await connection.hello(b"me.example\r", extended=False)).code == 250
        await finished(connection)


async def test_no_time_is_enough_to_reach_this_machine() -> None:
    with SmtpPeer() as peer:
        connection = await Connection.open("127.0.0.1", b"h", Route(b"h", peer.port), None, 0, 10.0)
        await connection.greet()
        await finished(connection)


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.SILENCE])
async def test_waiting_for_a_reply_ends(fault: Fault) -> None:
    with SmtpPeer({"NOOP": fault}) as peer:
        connection = await connect(peer, patience=0.3)
        with pytest.raises(PeerLost):
            await connection.command(b"NOOP")
        with pytest.raises(PeerLost):
            await connection.command(b"NOOP")


async def test_a_source_address_is_used() -> None:
    with SmtpPeer() as peer:
        route = Route(b"127.0.0.1", peer.port)
        connection = await Connection.open("127.0.0.1", b"h", route, "127.0.0.1", 10.0, 10.0)
        await connection.greet()
        await finished(connection)
        with pytest.raises(OSError, match="requested address"):
            await Connection.open("127.0.0.1", b"h", route, "192.0.2.1", 10.0, 10.0)
    assert peer.sessions[0].client == "127.0.0.1"


async def test_nobody_there_is_an_error_at_once() -> None:
    with pytest.raises(ConnectionRefusedError):
        await Connection.open("127.0.0.1", b"h", Route(b"h", 1), None, 60.0, 10.0)
