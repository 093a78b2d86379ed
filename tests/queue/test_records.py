"""The records in queue files, by qmail's grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq.queue import records
from pluq.queue.records import Todo

ADDRESSES = st.binary(max_size=20).map(lambda address: address.replace(b"\0", b"x"))


@given(st.integers(0, 2**32), st.integers(0, 2**32), ADDRESSES, st.lists(ADDRESSES))
def test_a_todo_file_comes_back(uid, pid, sender, recipients):
    todo = Todo(uid, pid, sender, recipients)
    assert records.parse_todo(records.encode_todo(todo)) == todo


@given(ADDRESSES, st.lists(ADDRESSES))
def test_an_envelope_comes_back(sender, recipients):
    assert records.parse_envelope(records.encode_envelope(sender, recipients)) == (sender, recipients)


@given(st.binary(max_size=60))
def test_strange_bytes_raise_only_protocol_errors(data):
    for parse in (records.parse_todo, records.parse_envelope, records.parse_info):
        try:
            parse(data)
        except ProtocolError:
            pass
    records.parse_recipients(data)


def test_an_envelope_cannot_be_made_with_a_nul_in_an_address():
    with pytest.raises(ProtocolError):
        records.encode_envelope(b"a\0Tb", [])
    with pytest.raises(ProtocolError):
        records.encode_envelope(b"a", [b"b\0"])


@pytest.mark.parametrize("data", [b"", b"Fa", b"Fa\0", b"Fa\0Tb\0", b"Fa\0Xb\0\0", b"Xa\0\0", b"Fa\0Tb"])
def test_a_broken_envelope_is_refused(data):
    with pytest.raises(ProtocolError):
        records.parse_envelope(data)


def test_what_follows_an_envelope_is_ignored():
    assert records.parse_envelope(b"Fa\0Tb\0\0Tc\0junk") == (b"a", [b"b"])


def test_a_todo_number_ends_at_the_first_byte_that_is_no_digit():
    assert records.parse_todo(b"u12 x\0p34 c9\0Fa\0Tb\0") == Todo(12, 34, b"a", [b"b"])


@pytest.mark.parametrize("data", [b"u1\0p2\0Xa\0", b"u1\0p2\0", b"Fa\0\0", b""])
def test_a_todo_file_with_an_unknown_record_or_no_sender_is_refused(data):
    with pytest.raises(ProtocolError):
        records.parse_todo(data)


def test_recipients_know_where_their_mark_stands():
    data = records.encode_recipients([(b"a@b", False), (b"c", True)])
    assert data == b"Ta@b\0Dc\0"
    assert records.parse_recipients(data) == [(b"a@b", False, 0), (b"c", True, 5)]
    assert data[5:6] == b"D"
