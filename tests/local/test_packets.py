"""What qmail-lspawn and its workers tell each other."""

from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq.local.order import Order
from pluq.local.packets import (
    Answer,
    decode_answers,
    decode_deliveries,
    decode_lookups,
    encode_answer,
    encode_delivery,
    encode_lookup,
)

text = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b""))
number = st.integers(0, 2**40)


@given(st.lists(st.tuples(number, st.builds(Order, *[text] * 8)), max_size=5))
def test_deliveries_survive_a_packet(jobs):
    assert decode_deliveries(b"".join(encode_delivery(job, order) for job, order in jobs)) == jobs


@given(st.lists(st.tuples(number, text), max_size=5))
def test_lookups_survive_a_packet(jobs):
    assert decode_lookups(b"".join(encode_lookup(*job) for job in jobs)) == jobs


@given(st.lists(st.builds(Answer, number, st.integers(-64, 255), text), max_size=5))
def test_answers_survive_a_packet(answers):
    assert decode_answers(b"".join(map(encode_answer, answers))) == answers


@given(st.binary(max_size=60))
def test_a_worker_cannot_confuse_us(packet):
    try:
        decode_answers(packet)
    except ProtocolError:
        pass
