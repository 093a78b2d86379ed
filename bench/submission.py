"""A load of users' programs: each message on a connection of its own, with STARTTLS and AUTH PLAIN.

smtp-source knows neither. The clients are processes of this program, so they cost more than smtp-source does; that is the same for whoever
is measured.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl

from bench.variants import PASSWORD, USER

LINE = b"x" * 70 + b"\r\n"


def submit(port: int, count: int, size: int, sessions: int, to: str) -> None:
    """Send the messages, `sessions` at a time. Raises RuntimeError when one is not taken."""
    children = []
    for index in range(sessions):
        share = count // sessions + (index < count % sessions)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run(port, share, size, to)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    if any(codes):
        raise RuntimeError("a submission was refused")


def run(port: int, count: int, size: int, to: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    message = b"From: <%b>\r\nTo: <%b>\r\nSubject: bench\r\n\r\n" % (USER.encode(), to.encode())
    message += LINE * (size // len(LINE)) + b".\r\n"
    secret = base64.b64encode(b"\0%b\0%b" % (USER.encode(), PASSWORD.encode()))
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as plain:
            expect(plain, b"220")
            say(plain, b"EHLO client.example\r\n", b"250")
            say(plain, b"STARTTLS\r\n", b"220")
            with context.wrap_socket(plain) as sock:
                say(sock, b"EHLO client.example\r\n", b"250")
                say(sock, b"AUTH PLAIN %b\r\n" % secret, b"235")
                say(sock, b"MAIL FROM:<%b>\r\n" % USER.encode(), b"250")
                say(sock, b"RCPT TO:<%b>\r\n" % to.encode(), b"250")
                say(sock, b"DATA\r\n", b"354")
                say(sock, message, b"250")
                say(sock, b"QUIT\r\n", b"221")


def say(sock: socket.socket, data: bytes, wanted: bytes) -> None:
    sock.sendall(data)
    expect(sock, wanted)


def expect(sock: socket.socket, wanted: bytes) -> None:
    """Read a reply to its last line. Raises RuntimeError for another one."""
    reply = b""
    while not reply.endswith(b"\n") or reply.split(b"\n")[-2][3:4] == b"-":
        piece = sock.recv(4096)
        if not piece:
            raise RuntimeError(f"the server hung up after {reply!r}")
        reply += piece
    if not reply.startswith(wanted):
        raise RuntimeError(f"expected {wanted!r}, got {reply!r}")
