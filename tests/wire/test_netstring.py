"""Netstrings: what is encoded comes back, and nothing else than ProtocolError comes out of a stranger's bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq.wire import netstring


@given(st.lists(st.binary(max_size=50)))
def test_netstrings_come_back_whole(payloads):
    assert netstring.decode_all(b"".join(map(netstring.encode, payloads)), 100) == payloads


@given(st.lists(st.binary(max_size=50)), st.integers(1, 7))
def test_a_stream_may_be_cut_anywhere(payloads, size):
    data = b"".join(map(netstring.encode, payloads))
    decoder = netstring.Decoder(100)

    found = [got for at in range(0, len(data), size) for got in decoder.feed(data[at : at + size])]

    assert found == payloads
    assert decoder.idle


@given(st.binary(max_size=40))
def test_strange_bytes_raise_only_protocol_errors(data):
    for parse in (lambda: netstring.decode(data, 20), lambda: netstring.decode_all(data, 20)):
        try:
            parse()
        except ProtocolError:
            pass


@pytest.mark.parametrize(
    "data",
    [b"", b"3", b"3:", b"3:abc", b"3:abcd", b":", b"03:abc,", b"-1:a,", b"+1:a,", b" 1:a,", b"99999999999:", b"x"],
)
def test_broken_netstrings_are_refused(data):
    with pytest.raises(ProtocolError):
        netstring.decode(data, 100)


def test_a_length_above_the_limit_is_refused_before_the_payload_comes():
    with pytest.raises(ProtocolError, match="longer than the 10"):
        netstring.Decoder(10).feed(b"11:")


def test_the_rest_is_given_back():
    assert netstring.decode(b"3:abc,2:de,", 10) == (b"abc", b"2:de,")
