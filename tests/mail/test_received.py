"""Received fields: the bytes of qmail, and nothing in them that a stranger could break out of."""

from hypothesis import given
from hypothesis import strategies as st

from pluq.mail.received import invoked_by, queue_received, safe, server_received

WHEN = 1795195217


def field(**changes):
    values = {
        "remote_host": b"client.example.net",
        "remote_ip": b"192.0.2.7",
        "remote_info": None,
        "helo": None,
        "local": b"mx.example.org",
        "when": WHEN,
    }
    return server_received(**(values | changes))


def test_plain_field():
    assert field() == (
        b"Received: from client.example.net (192.0.2.7)\n  by mx.example.org with SMTP; 20 Nov 2026 17:20:17 -0000\n"
    )


def test_helo_and_info():
    assert field(helo=b"there", remote_info=b"joe").startswith(
        b"Received: from client.example.net (HELO there) (joe@192.0.2.7)\n"
    )
    assert field(helo=b"", remote_info=b"").startswith(b"Received: from client.example.net (HELO ) (@192.0.2.7)\n")


def test_a_hidden_client_is_neither_named_nor_numbered():
    assert field(hidden=True, helo=b"c", remote_info=b"joe").startswith(b"Received: (HELO c) (joe)\n  by mx")
    assert field(hidden=True, helo=b"c").startswith(b"Received: (HELO c) ()\n")
    assert field(hidden=True).startswith(b"Received: ()\n")


def test_unsafe_bytes_become_question_marks():
    assert safe(b'a b(c)<d>"e;f_g\xe9\n') == b"a?b?c??d??e?f?g??"


@given(host=st.binary(), helo=st.binary(), info=st.binary(), local=st.binary())
def test_a_field_has_two_lines_and_balanced_parentheses_whatever_strangers_say(host, helo, info, local):
    made = field(remote_host=host, helo=helo, remote_info=info, local=local)
    assert made.count(b"\n") == 2
    assert made.endswith(b"\n")
    assert made.count(b"(") == made.count(b")") == 2
    assert b"\n  by " in made


def test_field_of_qmail_queue():
    assert queue_received(1234, b"from network", WHEN) == (
        b"Received: (qmail 1234 invoked from network); 20 Nov 2026 17:20:17 -0000\n"
    )
    users = {"alias": 1, "qmaild": 2, "qmails": 3}
    assert [invoked_by(uid, **users) for uid in (1, 2, 3, 4)] == [
        b"by alias",
        b"from network",
        b"for bounce",
        b"by uid 4",
    ]
