"""The daemon's end of run/todo: requests that share a packet, and packets that cannot be sent."""

import errno
import socket

import pytest

from pluq.errors import ProtocolError
from pluq.queue.todo_link import TodoLink


class Failing:
    """A socket on which no packet can be sent."""

    def __init__(self, sock, error):
        self.sock, self.error = sock, error

    def send(self, packet):
        raise OSError(self.error, "cannot send")

    def shutdown(self, how):
        self.sock.shutdown(how)


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.ENOBUFS, errno.EPIPE])
def test_a_scheduler_that_cannot_be_told_of_a_message_hears_the_connection_end(error):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.settimeout(60)
        TodoLink(Failing(ours, error), None).entered(7, 100, b"Fa\0Tb\0")
        assert theirs.recv(100) == b"", "it connects again and looks through todo/"


class Noting:
    """A committer that notes what it is asked for."""

    def __init__(self):
        self.asked = []

    def finish(self, number, recycle=True):
        self.asked.append(("finish", number, recycle))

    def remove_stale(self, number):
        self.asked.append(("stale", number))


def test_requests_that_share_a_packet_are_carried_out_in_order():
    committer = Noting()
    TodoLink(None, committer).take(b"m7 d8 c9 m10")
    assert committer.asked == [("finish", 7, True), ("finish", 8, False), ("stale", 9), ("finish", 10, True)]


@pytest.mark.parametrize("packet", [b"m7 ", b" ", b"m7 m", b"m7 x8", b"m7  m8", b"m7\0m8"])
def test_a_packet_that_breaks_the_form_is_refused(packet):
    with pytest.raises(ProtocolError):
        TodoLink(None, Noting()).take(packet)
