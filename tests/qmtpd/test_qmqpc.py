from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.qmtpd import qmqpc
from pluq.qmtpd.qmqpc import read_envelope, read_message, server_address, submit
from pluq.queue.refusal import QueueRefusal
from pluq.wire.qmqp import encode_request


@pytest.mark.parametrize(
    ("line", "address"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"192.0.2.1:6280 comment", "192.0.2.1"),
        (b"257.0.2.1", "1.0.2.1"),
        (b"192.0.2", None),
        (b"192.0.2.", None),
        (b"host.example", None),
        (b"", None),
        (b"2001:db8::1", None),
    ],
)
def test_a_server_is_an_ipv4_address_and_what_follows_is_not_read(line: bytes, address: str | None) -> None:
    assert server_address(line) == address


@given(st.binary(max_size=20))
def test_no_line_is_too_odd(line: bytes) -> None:
    server_address(line)


def test_the_envelope_ends_with_its_last_nul_though_the_pipe_stays_open() -> None:
    chunks = iter([b"Fa\0", b"Tb\0", b"\0left over"])
    assert read_envelope(lambda size: next(chunks)) == (b"a", [b"b"])


@pytest.mark.parametrize("envelope", [b"", b"F", b"Fa\0", b"Fa\0Tb\0", b"Xa\0\0", b"\0\0", b"Fa\0Xb\0\0"])
def test_a_bad_envelope_is_exit_91(envelope: bytes) -> None:
    with pytest.raises(QueueRefusal) as caught:
        read_envelope(io.BytesIO(envelope).read)
    assert caught.value.code == 91


def test_an_unreadable_message_is_exit_54() -> None:
    def broken(size: int) -> bytes:
        raise OSError

    with pytest.raises(QueueRefusal) as caught:
        read_message(broken)
    assert caught.value.code == 54


@contextmanager
def server(answer: bytes, address: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """A QMQP server that reads one request to its last comma and answers. Gives its port and what it got."""
    got: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            data = b""
            while not data.endswith(b",,") and (piece := connection.recv(4096)):
                data += piece
            got.append(data)
            connection.sendall(answer)

    with socket.create_server((address, port)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1], got
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def give(servers: list[bytes], port: int, message: bytes = b"hi\n") -> int:
    """Return the exit code."""
    try:
        submit(servers, read_message(io.BytesIO(message).read), b"a@b", [b"c@d"], port)
    except QueueRefusal as refusal:
        return refusal.code
    return 0


@pytest.mark.parametrize(
    ("answer", "code"),
    [(b"7:Kok yes,", 0), (b"5:Zlate,", 71), (b"3:Dno,", 31), (b"xyzK", 0), (b"", 74), (b"5:nope,", 74)],
)
def test_the_first_verdict_decides(answer: bytes, code: int) -> None:
    with server(answer) as (port, got):
        assert give([b"127.0.0.1"], port) == code
    assert got == [encode_request(b"hi\n", b"a@b", [b"c@d"])]


def test_a_message_that_does_not_fit_in_memory_arrives_whole() -> None:
    message = b"0123456789abcde\n" * 20_000
    with server(b"1:K,") as (port, got):
        assert give([b"127.0.0.1"], port, message) == 0
    assert got == [encode_request(message, b"a@b", [b"c@d"])]


def test_a_server_that_is_down_is_passed_over_and_one_that_answers_is_the_last() -> None:
    with server(b"3:Dno,", "127.0.0.2") as (port, got), server(b"1:K,", "127.0.0.3", port) as (_, unused):
        assert give([b"# not an address", b"127.0.0.1", b"127.0.0.2", b"127.0.0.3"], port) == 31
    assert (len(got), unused) == (1, [])


def test_no_server_is_a_configuration_error_and_one_that_is_down_a_refused_connection() -> None:
    assert give([], 1) == 55
    assert give([b"name.example"], 1) == 55
    assert give([b"127.0.0.1"], 1) == 73


def test_limits_are_those_of_the_manual() -> None:
    assert (qmqpc.PORT, qmqpc.CONNECT_SECONDS, qmqpc.SECONDS) == (628, 10, 60)
