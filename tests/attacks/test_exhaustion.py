"""Descriptors run out in every role while clients come: what cannot be taken is refused, and afterwards mail flows as before."""

import contextlib
import socket

import pytest

from pluq.testing.stack import BIN, wait_until

pytestmark = pytest.mark.integration

CLIENTS = 150
ROLES = {"smtpd", "queue", "send", "lspawn", "rspawn"}


@pytest.mark.parametrize("most", [32, 64])
def test_without_descriptors_a_stack_refuses_and_recovers(new_stack, far, most):
    accepted = []
    with new_stack() as stack:
        stack.control("smtproutes", f":127.0.0.1:{far.port}")
        stack.control("rcpthosts", "example.org\nfar.example")
        stack.command = ["sh", "-c", f'ulimit -n {most}; exec "$0" "$@"', str(BIN / "pluq"), "serve"]
        stack.start()
        with contextlib.ExitStack() as kept:
            for number in range(CLIENTS):
                with contextlib.suppress(OSError):
                    sock = kept.enter_context(socket.create_connection(("127.0.0.1", stack.port), 1))
                    sock.send(b"HELO x\r\n")
                if number % 15 == 0:
                    accepted += try_to_send(stack.port, f"flood{number}")
        wait_until(lambda: set(stack.role_pids()) >= ROLES, stack.told)
        # The last clients have hung up; the server learns it when it comes to them.
        wait_until(lambda: try_to_send(stack.port, "again"), stack.told)
        stack.wait_mail("again", *accepted, patience=60)
        stack.wait_empty(patience=60)


def try_to_send(port, token):
    """Send a message to a local and a remote recipient, without patience; return its token if it was accepted."""
    lines = ["HELO x", "MAIL FROM:<a@far.example>", "RCPT TO:<joe@example.org>", "RCPT TO:<you@far.example>", "DATA"]
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
        file = sock.makefile("rb")
        for line in lines:
            file.readline()
            sock.sendall(f"{line}\r\n".encode())
        if file.readline().startswith(b"354"):
            sock.sendall(f"Subject: {token}\r\n\r\nx\r\n.\r\n".encode())
            if file.readline().startswith(b"250"):
                return [token]
    return []
