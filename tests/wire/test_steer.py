"""Orders to the scheduler and its answers, as packets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq.wire.steer import (
    MESSAGES_A_PACKET,
    PACKET_BYTES,
    Order,
    Outcome,
    decode_answer,
    decode_order,
    encode_answer,
    encode_order,
)

NUMBERS = st.integers(0, 2**63 - 1)


@given(
    st.text("abcdefgh", min_size=1), st.binary().filter(lambda one: b"\0" not in one), st.dictionaries(NUMBERS, NUMBERS)
)
def test_an_order_arrives_as_it_was_sent(verb, text, messages):
    order = Order(verb, text, messages)
    assert decode_order(encode_order(order)) == order


@given(st.dictionaries(NUMBERS, st.sampled_from(Outcome)))
def test_an_answer_arrives_as_it_was_sent(outcomes):
    assert decode_answer(encode_answer(outcomes.items())) == outcomes


@given(st.binary())
def test_any_packet_is_an_order_or_a_protocol_error(packet):
    for decode in (decode_order, decode_answer):
        try:
            decode(packet)
        except ProtocolError:
            continue


def test_a_full_packet_fits():
    messages = {2**63 - 1 - number: 2**63 - 1 for number in range(MESSAGES_A_PACKET)}
    assert len(encode_order(Order("release", b"x" * 2000, messages))) <= PACKET_BYTES


@pytest.mark.parametrize("order", [Order("hold", b"a\0b", {}), Order("hold", b"x" * PACKET_BYTES, {})])
def test_what_cannot_be_sent_is_refused(order):
    with pytest.raises(ProtocolError):
        encode_order(order)
