"""Bounces to the queue daemon: the request in pieces, and every kind of answer."""

from __future__ import annotations

import os
import selectors
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.mail.bounce import Notice
from pluq.send.bounces import Source
from pluq.send.submission import BOUNCES_AT_ONCE, DaemonInjector, Submission
from pluq.supervisor.sockets import bind_unix
from pluq.wire import netstring, qmqp

NOTICE = Notice(b"", b"sender@there.example", b"head\n\n", b"middle\n")


def source(tmp_path, notes=b"notes\n\n", message=b"message\n"):
    paths = []
    for name, data in (("notes", notes), ("message", message)):
        paths.append(str(tmp_path / name))
        with open(paths[-1], "wb") as file:
            file.write(data)
    return Source(NOTICE, open(paths[0], "rb"), open(paths[1], "rb"))


def test_the_request_is_qmqp(tmp_path):
    bounce = source(tmp_path)
    submission = Submission(bounce)
    request = b""
    while chunk := submission.chunk():
        request += chunk[:3]
        submission.sent(3)
    bounce.close()

    assert qmqp.parse_request(request, 1000) == (b"head\n\nnotes\n\nmiddle\nmessage\n", b"", [b"sender@there.example"])


@pytest.mark.parametrize(
    ("copied", "text"),
    [
        (None, b"message\n"),
        (8, b"message\n"),
        (3, b"mes\n\n--- End of message stripped.\n"),
        (0, b"\n\n--- End of message stripped.\n"),
    ],
)
def test_of_a_long_message_as_much_is_sent_back_as_was_asked_for(tmp_path, copied, text):
    whole = source(tmp_path)
    bounce = Source(NOTICE, whole._notes, whole._message, copied)
    sent = b"".join(bounce.chunks())
    bounce.close()
    assert sent == b"head\n\nnotes\n\nmiddle\n" + text
    assert len(sent) == bounce.size


def test_a_file_that_shrinks_while_it_is_read_is_no_message(tmp_path):
    bounce = source(tmp_path, message=b"x" * 100)
    os.truncate(str(tmp_path / "message"), 10)

    with pytest.raises(OSError, match="changed"):
        list(bounce.chunks())
    bounce.close()


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5))
def test_no_answer_breaks_it(pieces):
    submission = Submission.__new__(Submission)
    submission._answer = b""
    for piece in [*pieces, b""]:
        answer = submission.answer(piece)
        if answer is not None:
            assert answer[0] in "KZD"
            return
    pytest.fail("the end of the stream is an answer")


class FakeDaemon:
    def __init__(self, path):
        self.listener = bind_unix(path, socket.SOCK_STREAM, 0o600, os.getuid())
        self.socks = []

    def accept(self):
        sock, _address = self.listener.accept()
        sock.setblocking(True)
        sock.settimeout(60)
        self.socks.append(sock)
        return sock

    def close(self):
        for sock in (*self.socks, self.listener):
            sock.close()


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(str(tmp_path / "qmqp"))
    yield daemon
    daemon.close()


@pytest.fixture
def injector(tmp_path):
    selector = selectors.DefaultSelector()
    warnings = []
    made = DaemonInjector(selector, str(tmp_path / "qmqp"), warnings.append)
    made.warnings = warnings

    def step():
        for key, mask in selector.select(0.05):
            key.data(mask)

    made.step = step
    yield made
    selector.close()


@pytest.mark.parametrize(
    ("answer", "qp"),
    [
        (netstring.encode(b"Kok 1700000000 qp 4711"), 4711),
        (netstring.encode(b"Zqq write error or disk full (#4.3.0)"), None),
        (netstring.encode(b"Dno"), None),
        (b"garbage", None),
        (b"", None),
    ],
)
def test_what_the_daemon_answers_is_what_becomes_of_the_bounce(daemon, injector, tmp_path, answer, qp):
    answers = []
    injector.inject(source(tmp_path), answers.append)
    sock = daemon.accept()
    received = b""
    while b"sender@there.example,," not in received:
        injector.step()
        received += sock.recv(65536)
    sock.sendall(answer)
    sock.close()
    while not answers:
        injector.step()

    assert answers == [qp]
    assert not injector.busy


def test_without_a_daemon_it_is_tried_later(injector, tmp_path):
    answers = []
    injector.inject(source(tmp_path), answers.append)

    assert answers == [None]
    assert injector.warnings == ["unable to reach the queue daemon, will try later"]


def test_only_a_few_at_once(daemon, injector, tmp_path):
    answers = []
    for _ in range(BOUNCES_AT_ONCE):
        assert not injector.busy
        injector.inject(source(tmp_path), answers.append)
    assert injector.busy

    daemon.accept().close()
    while not answers:
        injector.step()
    assert not injector.busy
    for _ in range(BOUNCES_AT_ONCE - 1):
        daemon.accept().close()
    while len(answers) < BOUNCES_AT_ONCE:
        injector.step()


def test_a_large_bounce_does_not_wait_for_a_slow_daemon(daemon, injector, tmp_path):
    answers = []
    message = os.urandom(3_000_000)
    injector.inject(source(tmp_path, message=message), answers.append)
    sock = daemon.accept()
    injector.step()  # the socket is full now; this returned
    received = b""
    sock.settimeout(0.0)
    while not received.endswith(b",,"):
        injector.step()
        try:
            received += sock.recv(1 << 20)
        except BlockingIOError:
            continue
    assert message in received
    sock.close()
    while not answers:
        injector.step()
