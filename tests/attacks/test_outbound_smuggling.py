"""SMTP smuggling outwards: whatever stands in a message, the next hop sees one message, CRLF line ends, and every leading dot doubled.

CVE-2023-51764 to -51766 seen from the sending side.
"""

import re
import socket

import pytest

from pluq.testing.stack import wait_until

pytestmark = pytest.mark.integration

SEQUENCES = (
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\n.\r", b"\r.\n", b"\r.\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n",
    b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n .\r\n", b"\r\n..\r\n", b"\r\n.\n\r\n", b"\n\n.\r\n",
    "\u0085.\u0085".encode(), "\u2028.\u2028".encode(), "\u2029.\u2029".encode(), b"\v.\v", b"\f.\f", b"\n.", b"\r\n.\r\n.\r\n",
)  # fmt: skip
SMUGGLED = b"MAIL FROM:<evil@x>\r\nRCPT TO:<victim@far.example>\r\nDATA\r\nSubject: smuggled\r\n\r\ninner\r\n.\r\n"
INJECTORS = {
    "qmail-inject": ("qmail-inject", "-fme@example.org", "you@far.example"),
    "sendmail": ("sendmail", "-fme@example.org", "-i", "you@far.example"),
    "a forward": ("qmail-inject", "-fme@example.org", "joe-away@example.org"),
}
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@pytest.mark.parametrize("injector", INJECTORS)
def test_what_leaves_is_one_message_in_smtps_form(stack, far, injector):
    (stack.folder / "joe" / ".qmail-away").write_text("&you@far.example\n")
    program, *arguments = INJECTORS[injector]
    before = len(far.messages)
    for number, sequence in enumerate(SEQUENCES):
        text = b"Subject: outer %d\n\nouter" % number + sequence + SMUGGLED
        stack.run(program, *arguments, input=text)
    wait_until(lambda: not stack.queued() and len(far.messages) >= before + len(SEQUENCES), stack.told)
    # A hop that was fooled would have more messages than were sent, with another sender.
    commands = [command for session in far.sessions for command in session.commands]
    assert not [command for command in commands if b"evil" in command or b"victim" in command]
    assert len(far.messages) == before + len(SEQUENCES)
    for message in far.messages[before:]:
        assert not BARE.search(message), "only CRLF ends a line"
        assert message.count(b"\r\n.\r\n") == 1 and message.endswith(b"\r\n.\r\n")
        lines = message.split(b"\r\n")[:-2]
        assert all(line.startswith(b"..") for line in lines if line.startswith(b"."))
        assert b"MAIL FROM:<evil@x>" in message, "it is text"


def test_what_came_by_smtp_leaves_as_one_message(stack, far):
    """A bare LF is refused at the door; what is accepted leaves in SMTP's form."""
    before = len(far.messages)
    accepted = 0
    for number, sequence in enumerate(SEQUENCES[:-1]):  # the last one does end a message
        text = b"Subject: outer %d\r\n\r\nouter" % number + sequence + SMUGGLED
        with socket.create_connection(("127.0.0.1", stack.port), 20) as sock, sock.makefile("rb") as lines:
            lines.readline()
            for command in (b"HELO x", b"MAIL FROM:<me@example.org>", b"RCPT TO:<you@far.example>", b"DATA"):
                sock.sendall(command + b"\r\n")
                lines.readline()
            sock.sendall(text + b"\r\n.\r\n")
            accepted += lines.readline().startswith(b"250")
    assert accepted >= 8
    wait_until(lambda: not stack.queued(), stack.told)
    assert len(far.messages) == before + accepted
    for message in far.messages[before:]:
        assert not BARE.search(message)
        assert message.count(b"\r\n.\r\n") == 1
    commands = [command for session in far.sessions for command in session.commands]
    assert not [command for command in commands if b"evil" in command]
