"""Line ends, NUL and escape sequences in envelopes, replies and greetings: no command, no header field, no line of the log is made of them."""

import contextlib
import os
import re
import smtplib
import socket
import subprocess

import pytest

from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.stack import BIN, wait_until

pytestmark = pytest.mark.integration

EVIL = b"evil@far.example"
COMMAND = b"\nRCPT TO:<" + EVIL + b">\n"
REPLIES = (
    b"550 no\x1b]0;owned\x07\x00\x08 \xff\xfe end\r\n",
    b"550-first\n550-delivery 1: success: did_1+0+0/\r\n550 last\r\n",
    b"550 " + b"x" * 100_000 + b"\r\n",
    b"550 no\r\r\rend msg 1\r\n",
)
# What may begin a line of our log, beside those of the tests' own clients.
OURS = re.compile(
    r"(status: |new msg |info msg |end msg |bounce msg |starting delivery |delivery [0-9]+: |tcpserver: |triple bounce: |warning: |alert: "
    r"|running|exiting|pluq|double bounce: |@|[a-z]+: )"
)


def queue(stack, sender, recipient):
    """Give qmail-queue an envelope as it is; return the exit code."""
    reader, writer = os.pipe()
    os.write(writer, b"F" + sender + b"\0T" + recipient + b"\0\0")
    os.close(writer)
    with open(reader, "rb") as envelope:
        return subprocess.run(
            [BIN / "qmail-queue"], input=b"Subject: x\n\nx\n", stdout=envelope, env=stack.environment(), check=False
        ).returncode


def lines_of_log(stack):
    return stack.log.read_bytes().split(b"\n")[:-1]


@pytest.mark.parametrize("breaker", [b"\n", b"\r\n", b"\r"])
def test_an_envelope_with_line_ends_reaches_nobody_as_commands(stack, far, breaker):
    inner = COMMAND.replace(b"\n", breaker)
    for sender, recipient in (
        (b"a" + inner + b"@far.example", b"you@far.example"),
        (b"a@far.example", b"you" + inner + b"@far.example"),
        (b"a@far.example", b"you@far.example" + inner),
        (b"a@far.example", b"joe-x" + inner + b"@example.org"),
    ):
        queue(stack, sender, recipient)
    wait_until(lambda: not stack.queued(), stack.told)
    commands = [command for session in far.sessions for command in session.commands]
    assert not [command for command in commands if command.upper().startswith(b"RCPT TO:<" + EVIL.upper())]
    assert not [line for line in lines_of_log(stack) if line.startswith(b"RCPT")]


def test_a_forward_line_with_a_cr_reaches_nobody_as_commands(stack, far):
    (stack.folder / "joe" / ".qmail-cr").write_bytes(b"&you\rRCPT TO:<" + EVIL + b">\r@far.example\n")
    stack.send("forward", to="joe-cr@example.org")
    wait_until(lambda: not stack.queued(), stack.told)
    assert not [
        command for session in far.sessions for command in session.commands if command.startswith(b"RCPT TO:<" + EVIL)
    ]


def test_what_another_server_says_is_one_line_of_the_log_and_one_paragraph_of_the_bounce(new_stack):
    with contextlib.ExitStack() as servers:
        stack = servers.enter_context(new_stack())
        peers = [servers.enter_context(SmtpPeer({"RCPT": reply})) for reply in REPLIES]
        stack.control(
            "smtproutes", "\n".join(f"s{number}.example:127.0.0.1:{peer.port}" for number, peer in enumerate(peers))
        )
        stack.start()
        for number in range(len(REPLIES)):
            stack.run("qmail-inject", "-fjoe@example.org", f"you@s{number}.example", input=b"Subject: x\n\nx\n")
        wait_until(lambda: len(stack.subjects()) == len(REPLIES) and not stack.queued(), stack.told)
        lines = lines_of_log(stack)
        bounces = [path.read_bytes() for path in (stack.maildir() / "new").iterdir()]
    for line in lines:
        assert OURS.match(line.decode("ascii")), line
        assert not set(line) - set(range(32, 127)), line
        assert len(line) < 20_000
    for bounce in bounces:
        assert bounce.count(b"\n--- Below this line is a copy of the message.\n") == 1
        paragraph = bounce.partition(b".example>:\n")[2].partition(b"\n\n")
        assert paragraph[2].startswith(b"--- Below this line")


def test_a_greeting_is_no_line_of_the_log(stack):
    before = len(lines_of_log(stack))
    for greeting in (b"HELO x\x1b[2J\x07", b"HELO \xff\x00end msg 1", b"EHLO " + b"h" * 30_000, b"HELO a\rend msg 7"):
        with socket.create_connection(("127.0.0.1", stack.port), 10) as sock, contextlib.suppress(OSError):
            file = sock.makefile("rb")
            file.readline()
            sock.sendall(
                greeting + b"\r\nMAIL FROM:<\x1b\x07\xff@x>\r\nRCPT TO:<joe@example.org>\r\nDATA\r\n\r\n.\r\nQUIT\r\n"
            )
            file.read()
    with stack.client() as client, contextlib.suppress(smtplib.SMTPException):
        client.docmd("HELO", "x" * 500)
    wait_until(lambda: not stack.queued(), stack.told)
    for line in lines_of_log(stack)[before:]:
        assert OURS.match(line.decode("ascii")), line
        assert not set(line) - set(range(32, 127)), line
