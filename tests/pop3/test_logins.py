"""What the POP3 server may ask of root, and nothing else."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.config import Home, current_ids
from pluq.errors import ProtocolError
from pluq.pop3.logins import DONE, Logins, encode, parse

LOGIN = b"joe\0sesame\0<1@h>\0"
words = st.binary(max_size=50).map(lambda data: data.replace(b"\0", b""))


@given(words, words, words)
def test_a_login_comes_through_as_it_is(user, secret, stamp):
    login = b"%b\0%b\0%b\0" % (user, secret, stamp)
    assert parse(encode("pop", login, {})).login == login


@given(st.binary(max_size=300))
def test_any_packet_is_a_request_or_is_refused(packet):
    try:
        request = parse(packet)
    except ProtocolError:
        return
    assert request.login.count(b"\0") == 3
    assert all(name == "PROTO" or name.startswith("TCP") for name in request.environment)


def test_only_tcpservers_variables_are_passed_on():
    variables = {"TCPREMOTEIP": "192.0.2.1", "PROTO": "TCP", "LD_PRELOAD": "/tmp/x.so", "RELAYCLIENT": ""}
    assert parse(encode("pop", LOGIN, variables)).environment == {"TCPREMOTEIP": "192.0.2.1", "PROTO": "TCP"}
    with pytest.raises(ProtocolError):
        parse(b"pop\0" + LOGIN + b"LD_PRELOAD=/tmp/x.so\0")


def ask(folder, checkpassword, profile="pop"):
    """Have one login carried out in a process of its own; return what is told and what was written to the stream."""
    control = folder / "control"
    control.mkdir(exist_ok=True)
    (control / "pluq.toml").write_text(f'[profile.pop]\nprotocol = "pop3"\ncheckpassword = {checkpassword!r}\n')
    path = str(folder / "logins")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(path)
    listening.listen()
    pid = os.fork()
    if pid == 0:
        try:
            Logins(Home(str(folder)), current_ids(), listening).run()
        finally:
            os._exit(0)
    listening.close()
    ours, theirs = socket.socketpair()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked, ours:
            asked.connect(path)
            asked.settimeout(60)
            socket.send_fds(asked, [encode(profile, LOGIN, {"TCPREMOTEIP": "192.0.2.1"})], [theirs.fileno()])
            theirs.close()
            with ours.makefile("rb") as stream:
                written = stream.read()
            return asked.recv(1000), written
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_the_program_gets_login_stream_and_a_clean_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_STACK", "x")
    told, written = ask(tmp_path, ["sh", "-c", "tr '\\0' ' ' <&3; env"])
    assert told == DONE
    assert written.startswith(b"joe sesame <1@h> ")
    assert b"TCPREMOTEIP=192.0.2.1\n" in written
    assert b"PLUQ_PROFILE=pop\n" in written
    assert b"SECRET_OF_THE_STACK" not in written


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["sh", "-c", "exit 1"], b"authorization failed"),
        (["sh", "-c", "kill -9 $$"], b"aack, child crashed"),
        (["no-such-checkpassword"], b"authorization failed"),
    ],
)
def test_a_refusal_is_told_in_qmails_words(tmp_path, command, text):
    assert ask(tmp_path, command) == (text, b"")


def test_a_profile_without_logins_has_none(tmp_path):
    assert ask(tmp_path, ["true"], profile="mx")[0] == b"authorization failed"
