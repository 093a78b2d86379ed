"""Messages, verdict texts: views, bounds, and nothing that could break a header or a reply."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import PluqError
from pluq.hookspecs import Defer, Message, Recipient, Reject, Transaction, reply_line
from pluq.hookspecs.message import check_field, split_fields

TEXT = b"Received: one\nSubject: hi\n there\nX-A: 1\nX-A: 2\n\nbody\nX-A: 3\n"


def test_fields_keep_their_folded_lines() -> None:
    message = Message.from_bytes(TEXT)
    assert [one.name for one in message.fields] == [b"received", b"subject", b"x-a", b"x-a"]
    assert message.get_all(b"Subject") == [b"hi\n there"]


def test_a_field_put_on_top_stands_above_all_others() -> None:
    message = Message.from_bytes(TEXT)
    message.prepend(b"A: 1")
    message.prepend(b"B: 2\n folded\n")
    assert message.as_bytes() == b"B: 2\n folded\nA: 1\n" + TEXT


def test_removing_fields_leaves_the_rest_byte_for_byte_and_the_original_alone() -> None:
    message = Message.from_bytes(TEXT)
    assert message.remove(lambda one: one.name == b"x-a") == 2
    assert message.as_bytes() == b"Received: one\nSubject: hi\n there\n\nbody\nX-A: 3\n"
    assert message.open().read() == TEXT


def test_fields_are_changed_where_they_stand_by_name_and_number() -> None:
    message = Message.from_bytes(b"A: 1\nB: 2\na: 3\nA: 4\n\nbody\n")
    assert message.change(b"A", 2, b"A: new")
    assert message.change(b"a", 1, None)
    assert message.change(b"A", 2, b"A: last")  # the first has gone: what was the third is the second now
    assert not message.change(b"A", 3, None)
    assert not message.change(b"A", 0, None)
    message.append(b"C: 5\n")
    message.prepend(b"Z: 0\n")
    assert message.as_bytes() == b"Z: 0\nB: 2\nA: new\nA: last\nC: 5\n\nbody\n"
    assert b"".join(message.body_chunks()) == b"body\n"
    assert [one.value for one in message.fields if one.name == b"a"] == [b"1", b"3", b"4"], (
        "the original stays what it was"
    )
    with pytest.raises(PluqError, match="break the header"):
        message.change(b"B", 1, b"B: x\nEvil: y\n")


@pytest.mark.parametrize(
    ("text", "body"), [(b"A: 1\n\nx\n", b"x\n"), (b"\nx\n", b"x\n"), (b"A: 1\n", b""), (b"A: 1\n\n", b""), (b"", b"")]
)
def test_the_body_begins_behind_the_empty_line(text: bytes, body: bytes) -> None:
    assert b"".join(Message.from_bytes(text).body_chunks()) == body


def test_a_message_in_a_file_gives_the_same_as_one_in_memory() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(TEXT)
        message = Message(file, len(TEXT))
        message.remove(lambda one: one.name == b"subject")
        message.prepend(b"A: 1")
        assert message.as_bytes() == b"A: 1\nReceived: one\nX-A: 1\nX-A: 2\n\nbody\nX-A: 3\n"


@given(st.binary(max_size=400))
def test_an_untouched_view_is_the_original_whatever_it_holds(data: bytes) -> None:
    message = Message.from_bytes(data)
    message.remove(lambda one: False)
    assert message.as_bytes() == data
    message.remove(lambda one: one.name == b"no such field")
    assert len(message.fields) >= 0
    assert message.as_bytes() == data


@given(st.binary(max_size=300))
def test_fields_are_a_prefix_of_the_header(data: bytes) -> None:
    raw = b"".join(one.raw for one in split_fields(data))
    assert (data + b"\n").startswith(raw)


@pytest.mark.parametrize(
    "raw", [b"no colon", b"A: 1\nB: 2", b"A: 1\n\nbody", b"A b: 1", b": 1", b"A: \0", b"A: 1\r\nB: 2", b"\xc3\xa9: 1"]
)
def test_a_field_that_would_break_the_header_is_refused(raw: bytes) -> None:
    with pytest.raises(PluqError):
        check_field(raw)


def test_replies_look_as_qmail_writes_them() -> None:
    assert reply_line(Reject(553, "5.7.1", "sorry")) == b"553 sorry (#5.7.1)\r\n"
    assert reply_line(Defer(451, None, b"later")) == b"451 later\r\n"


@given(st.binary(), st.one_of(st.none(), st.text()))
def test_no_text_can_inject_a_line_into_a_reply(text: bytes, enhanced: str | None) -> None:
    line = reply_line(Reject(550, enhanced, text))
    assert line.endswith(b"\r\n")
    assert not set(line[:-2]) & {0, 10, 13}


def test_a_field_is_found_by_any_spelling_of_its_name() -> None:
    message = Message.from_bytes(TEXT)
    assert message.get("SUBJECT") == message.get(b"subject") == b"hi\n there"
    assert message.get("X-B") is None
    assert message.get_all("x-a") == [b"1", b"2"]


def test_a_value_for_people_is_decoded_and_on_one_line() -> None:
    message = Message.from_bytes(
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n =?iso-8859-1?q?_aus_K=F6ln?=\nX: \xff\xfe\nY: plain\n\n"
    )
    assert message.text("Subject") == "Grüße aus Köln"
    assert message.text("Y") == "plain"
    assert message.text("X") == "\ufffd\ufffd"
    assert message.text("Z") == ""


def test_a_field_is_changed_where_it_stands_and_the_others_of_its_name_go() -> None:
    message = Message.from_bytes(TEXT)
    message.set_field(b"X-A: 9")
    message.set_field(b"X-B: new")
    message.set_field(b"X-B: newer")
    assert message.as_bytes() == b"X-B: newer\nReceived: one\nSubject: hi\n there\nX-A: 9\n\nbody\nX-A: 3\n"
    assert message.get_all("x-a") == [b"9"]
    assert [one.value for one in message.fields if one.name == b"x-a"] == [b"1", b"2"]


def test_the_body_and_the_whole_can_be_replaced() -> None:
    message = Message.from_bytes(TEXT)
    assert message.body() == b"body\nX-A: 3\n"
    message.replace_body(b"new\r\n")
    assert (message.body(), message.as_bytes()) == (
        b"new\n",
        b"Received: one\nSubject: hi\n there\nX-A: 1\nX-A: 2\n\nnew\n",
    )
    mail = message.parsed()
    mail.set_content("hello\n")
    message.replace(mail.as_bytes())
    assert message.body() == b"hello\n"
    assert message.text("Subject") == "hi there"


def test_what_is_no_field_is_refused_in_words_for_an_author() -> None:
    message = Message.from_bytes(TEXT)
    with pytest.raises(TypeError, match="a header field is bytes"):
        message.prepend("X-A: b")  # type: ignore[arg-type]
    with pytest.raises(PluqError):
        message.set_field(b"no field")
    with pytest.raises(PluqError):
        message.replace(b"no field\n\nbody\n")
    assert message.as_bytes() == TEXT


@given(st.binary(max_size=300))
def test_reading_for_people_never_fails_whatever_the_message_holds(data: bytes) -> None:
    message = Message.from_bytes(b"Subject: " + data)
    assert isinstance(message.text("subject"), str)
    assert message.as_bytes().endswith(message.body())
    message.parsed()


@given(st.lists(st.sampled_from([b"A: 1\n", b"B: 2\n x\n", b"a: 3\n"])), st.binary(max_size=40))
def test_a_changed_field_stands_once_and_the_rest_is_as_it_was(fields: list[bytes], body: bytes) -> None:
    message = Message.from_bytes(b"".join(fields) + b"\n" + body)
    message.set_field(b"A: new")
    assert message.get_all("A") == [b"new"]
    assert message.get_all("B") == [b"2\n x"] * fields.count(b"B: 2\n x\n")
    assert message.body() == body


def test_addresses_have_parts() -> None:
    transaction = Transaction(b'"a@b"@Example.ORG', recipients=[Recipient(b"joe")])
    assert (transaction.sender_local, transaction.sender_domain) == (b'"a@b"', b"example.org")
    assert (transaction.recipients[0].local, transaction.recipients[0].domain) == (b"joe", b"")
    assert Transaction(b"").sender_domain == b""
