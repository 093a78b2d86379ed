"""What a worker may send, and what the daemon makes of it."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq.queue import refusal
from pluq.queue.lease import ANSWER, MAX_ENVELOPE, REQUEST
from pluq.queue.lease_server import MAX_WANTED, Worker, envelope_fault
from pluq.queue.pool import Pool
from pluq.queue.records import encode_envelope

REQUESTS = st.builds(
    lambda letter, number, size, rest: REQUEST.pack(letter, number, size, len(rest)) + rest,
    st.sampled_from([b"w", b"a", b"c", b"x", b"z"]),
    st.integers(0, 5) | st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=20),
)


def no_files(owner):
    raise OSError(28, "No space left on device")


def make_worker(lease=no_files, give_back=lambda slot: None, submit=lambda commit: None):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    return Worker(near, 1000, lease, give_back, submit, iter(range(1, 1 << 20)).__next__), far


@given(st.lists(REQUESTS | st.binary(max_size=40), max_size=4))
def test_strange_packets_raise_only_protocol_errors(packets):
    worker, far = make_worker()
    try:
        worker.take(memoryview(b"".join(packets)))
        worker.flush()
    except ProtocolError:
        pass
    worker.sock.close()
    far.close()


@given(st.binary(max_size=30))
def test_an_envelope_is_judged_without_an_exception(data):
    fault = envelope_fault(data)
    assert fault in (0, refusal.BAD_ENVELOPE)
    assert (fault == 0) == (
        data[:1] == b"F" and data[-2:] == b"\0\0" and all(record[:1] == b"T" for record in data[:-2].split(b"\0")[1:])
    )


@pytest.mark.parametrize(
    ("sender", "recipients", "fault"),
    [
        (b"", [], 0),
        (b"a" * 1002, [b"b" * 1002], 0),
        (b"a" * 1003, [b"b"], refusal.ADDRESS_TOO_LONG),
        (b"a", [b"b", b"c" * 1003], refusal.ADDRESS_TOO_LONG),
    ],
)
def test_address_lengths_are_qmails(sender, recipients, fault):
    assert envelope_fault(encode_envelope(sender, recipients)) == fault


def test_a_worker_gets_no_more_leases_than_it_may_have(layout, monkeypatch):
    monkeypatch.setattr("pluq.queue.lease_server.MAX_LEASES", 100)
    pool = Pool(layout)
    worker, far = make_worker(pool.lease)
    far.settimeout(60)
    worker.take(memoryview(REQUEST.pack(b"w", MAX_WANTED, 0, 0)))
    kinds = []
    while b"e" not in kinds:
        worker.flush()
        data, fds, _flags, _address = socket.recv_fds(far, 65536, 64)
        kinds += [letter for letter, _number, _value in ANSWER.iter_unpack(data)]
        for fd in fds:
            os.close(fd)
    assert kinds == [b"n"] * 100 + [b"e"]
    worker.close(pool.release)
    far.close()
    pool.close()


def test_an_endless_envelope_is_cut_off(layout):
    pool = Pool(layout)
    worker, far = make_worker(pool.lease)
    worker.take(memoryview(REQUEST.pack(b"w", 1, 0, 0)))
    [(_slot, _qp)] = worker._leased.values()
    part = REQUEST.pack(b"a", _slot.number, 0, 1 << 20) + bytes(1 << 20)
    with pytest.raises(ProtocolError, match="too long"):
        for _ in range(MAX_ENVELOPE // (1 << 20) + 1):
            worker.take(memoryview(part))
    worker.close(pool.release)
    far.close()
    pool.close()
