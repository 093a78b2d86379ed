from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from pluq.pop3.authorization import Authorization, Login
from pluq.pop3.dialogue import LINE_BYTES, READ_BYTES, converse, split_command


def talk(stream: bytes, capabilities: tuple[bytes, ...] = ()) -> tuple[bytes, Login | None]:
    session = Authorization(b"pop.example", b"1.1000000000", capabilities)
    chunks = iter([stream[start : start + READ_BYTES] for start in range(0, len(stream), READ_BYTES)])
    answered: list[bytes] = []
    converse(session, lambda size: next(chunks, b""), answered.append)
    return b"".join(answered), session.login


def test_the_greeting_bears_the_timestamp_that_checkpassword_gets() -> None:
    said, login = talk(b"USER joe\r\nPASS a word \r\n")
    assert said == b"+OK <1.1000000000@pop.example>\r\n+OK \r\n"
    assert login is not None
    assert login.checkpassword() == b"joe\0a word \0<1.1000000000@pop.example>\0"


def test_apop_digest_of_rfc_1939_can_be_checked() -> None:
    """The digest of a name, secret and timestamp reaches the password program as the client sent it."""
    stamp = b"<1.1000000000@pop.example>"
    digest = hashlib.md5(stamp + b"tanstaaf", usedforsecurity=False).hexdigest().encode()
    _, login = talk(b"APOP mrose " + digest + b"\r\n")
    assert login == Login(b"mrose", digest, stamp)


def test_a_password_is_not_asked_twice() -> None:
    said, login = talk(b"USER joe\r\nPASS one\r\nNOOP\r\nPASS two\r\n")
    assert said.count(b"+OK") == 2
    assert login is not None and login.secret == b"one"


def test_capa_is_unknown_without_a_profile_and_answered_with_one() -> None:
    assert talk(b"CAPA\r\n")[0].endswith(b"-ERR authorization first\r\n")
    assert talk(b"CAPA\r\n", (b"USER",))[0].endswith(b"+OK capability list follows\r\nUSER\r\n.\r\n")


def test_an_endless_line_ends_the_session() -> None:
    said, login = talk(b"USER " + b"x" * (LINE_BYTES + 2 * READ_BYTES))
    assert said.endswith(b"-ERR line too long\r\n")
    assert login is None


def test_a_nul_ends_the_command() -> None:
    assert split_command(b"UsEr joe\0x\r") == (b"user", b"joe")
    assert split_command(b"noop\0 x") == (b"noop", b"")


@given(st.binary(max_size=600))
def test_no_bytes_of_a_stranger_break_the_login(stream: bytes) -> None:
    said, login = talk(stream)
    assert said.startswith(b"+OK <")
    if login is not None:
        assert login.checkpassword().count(b"\0") == 3
