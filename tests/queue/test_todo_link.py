"""The daemon's end of run/todo, when a packet cannot be sent."""

import errno
import socket

import pytest

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
