"""The link to the queue daemon: questions are answered in order, and nothing is looked at before the first answer."""

import socket
from collections.abc import Iterator

import pytest

from pluq.send.remover import DaemonLink


@pytest.fixture
def link() -> Iterator[tuple[DaemonLink, socket.socket]]:
    ours, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = DaemonLink(lambda text: None)
    made.connect(ours)
    yield made, daemon
    made.disconnect()
    daemon.close()


def test_each_question_has_its_own_answer(link):
    made, daemon = link
    answered = []
    made.ask(lambda: answered.append("first"))
    made.remove_message(5)
    made.ask(lambda: answered.append("second"))
    made.write()
    assert [daemon.recv(64) for _ in range(3)] == [b"t0", b"m5", b"t0"]
    daemon.send(b"+0")
    made.read()
    assert answered == ["first"]
    daemon.send(b"+0")
    made.read()
    assert answered == ["first", "second"]


def test_questions_without_an_answer_are_asked_again_on_a_new_connection(link):
    made, _daemon = link
    answered = []
    made.ask(lambda: answered.append(1))
    made.write()
    made.disconnect()
    ours, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.connect(ours)
    made.write()
    assert daemon.recv(64) == b"t0"
    daemon.send(b"+0")
    made.read()
    assert answered == [1]
    daemon.close()
