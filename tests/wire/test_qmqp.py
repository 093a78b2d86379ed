"""QMQP requests and answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq.wire import qmqp

ADDRESSES = st.binary(max_size=20)


@given(st.binary(max_size=300), ADDRESSES, st.lists(ADDRESSES, max_size=5), st.integers(1, 64))
def test_a_request_may_come_in_pieces(message, sender, recipients, size):
    data = qmqp.encode_request(message, sender, recipients)
    decoder = qmqp.RequestDecoder(1000, 100, 10000)

    got = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))

    assert (decoder.complete, got, decoder.sender, decoder.recipients) == (True, message, sender, recipients)
    assert qmqp.parse_request(data, 10000) == qmqp.Request(message, sender, recipients)


@given(st.binary(max_size=60), st.integers(1, 10))
def test_strange_bytes_raise_only_protocol_errors(data, size):
    decoder = qmqp.RequestDecoder(30, 10, 30)
    try:
        for at in range(0, len(data), size):
            decoder.feed(data[at : at + size])
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"7:3:abc,x,",  # junk where the sender should be
        b"6:3:abc,,",  # no sender
        b"5:3:abc,",  # the message leaves the outer netstring
        b"9:3:abc,9:x,,",  # the sender leaves it
        b"10:3:abc,1:x,",  # cut short: never complete, no error
        b"10:3:abc,1:x,;",
        b"10:3:abc,1:x,,more",
        b"200:100:",  # above the limit
    ],
)
def test_a_broken_request_is_never_complete(data):
    decoder = qmqp.RequestDecoder(30, 10, 30)
    try:
        decoder.feed(data)
    except ProtocolError:
        return
    assert not decoder.complete


def test_the_envelope_is_bounded():
    decoder = qmqp.RequestDecoder(30, 10, 30)
    with pytest.raises(ProtocolError, match="envelope is too long"):
        decoder.feed(qmqp.encode_request(b"", b"a", [b"b"] * 10))


def test_answers_come_back():
    assert qmqp.parse_reply(qmqp.encode_reply("K", "ok 1 qp 2")) == ("K", "ok 1 qp 2")
    with pytest.raises(ProtocolError):
        qmqp.parse_reply(b"3:Xab,")
