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


def ignored(notice):
    raise AssertionError(f"nobody sent {notice}")


def test_each_question_has_its_own_answer(link):
    made, daemon = link
    answered = []
    made.ask(lambda: answered.append("first"))
    made.remove_message(5)
    made.ask(lambda: answered.append("second"))
    made.write()
    assert daemon.recv(64) == b"t0 m5 t0"
    daemon.send(b"+0")
    made.read(ignored)
    assert answered == ["first"]
    daemon.send(b"+0")
    made.read(ignored)
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
    made.read(ignored)
    assert answered == [1]
    daemon.close()


def test_requests_of_a_turn_share_packets_that_the_daemon_can_read(link):
    made, daemon = link
    numbers = [10**place for place in range(19)]
    for number in numbers:
        made.remove_message(number)
    assert made.write()
    packets = [daemon.recv(1000)]
    while b"m%d" % numbers[-1] not in packets[-1].split(b" "):
        packets.append(daemon.recv(1000))
    assert max(map(len, packets)) <= 64
    assert b" ".join(packets).split(b" ") == [b"m%d" % number for number in numbers]
    assert len(packets) < 5


def test_what_the_daemon_does_not_take_now_waits_in_order(link):
    made, daemon = link
    count = 0
    while made.write():
        count += 1
        made.remove_message(count)
    made.remove_message(count + 1)
    received = []
    while len(received) <= count:
        received += daemon.recv(64).split(b" ")
        made.write()
    assert received == [b"m%d" % number for number in range(1, count + 2)]


def test_notices_and_answers_are_heard_in_the_order_in_which_they_came(link):
    made, daemon = link
    heard = []
    made.ask(lambda: heard.append("answer"))
    for packet in (b"n7 20\0", b"+0", b"n7 30\0"):
        daemon.send(packet)
    assert made.read(heard.append)
    assert heard == [b"n7 20\0", "answer", b"n7 30\0"], (
        "the first is about the old message with this number, the last about the new one"
    )


def test_what_a_daemon_said_before_it_died_is_heard(link):
    made, daemon = link
    heard = []
    daemon.send(b"n7 20\0")
    daemon.close()
    assert not made.read(heard.append)
    assert heard == [b"n7 20\0"]
