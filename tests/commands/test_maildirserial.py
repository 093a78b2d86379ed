"""maildirsmtp and maildirqmtp: a maildir over a link, each message once."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pluq.commands.maildirserial import host_and_port, read_envelope
from pluq.testing.ports import free_port

BIN = Path(sys.executable).parent
QUEUE = '#!/bin/sh\ncat > "$QUEUED/bounce"\ncat <&1 > "$QUEUED/envelope"\n'
pytestmark = pytest.mark.skipif(not (BIN / "maildirsmtp").exists(), reason="pluq's programs are not installed here")

OLD = 15 * 86400


class SmtpHost(threading.Thread):
    """A host that takes the recipients good@, refuses bad@ and puts off later@; it notes what it got."""

    def __init__(self, pipelining=True, drop_after=None):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.text = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.ehlo = b"250-host\r\n250 PIPELINING\r\n" if pipelining else b"502 what\r\n"
        self.drop_after = drop_after
        self.commands = []
        self.messages = []
        self.connections = 0
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, connection.makefile("rwb") as file:
                self.serve(file)

    def serve(self, file):
        def say(text):
            file.write(text)
            file.flush()

        say(b"220 host\r\n")
        accepted = False
        for line in iter(file.readline, b""):
            command = line.strip()
            self.commands.append(command)
            verb = command[:4].upper()
            if verb == b"EHLO":
                say(self.ehlo)
            elif verb == b"RCPT":
                answer = {b"g": b"250 ok\r\n", b"b": b"550 no such user\r\n", b"l": b"450 later\r\n"}[command[9:10]]
                accepted = answer.startswith(b"250")
                say(answer)
            elif verb == b"DATA":
                say(b"354 go\r\n" if accepted else b"503 no recipients\r\n")
                if accepted:
                    self.messages.append(b"".join(iter(file.readline, b".\r\n")))
                    if self.drop_after is not None and len(self.messages) >= self.drop_after:
                        self.drop_after = None
                        return
                    say(b"250 taken\r\n")
            elif verb == b"QUIT":
                return
            else:
                say(b"250 ok\r\n")


@pytest.fixture
def host():
    host = SmtpHost()
    yield host
    host.listener.close()


class Maildir:
    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "Maildir"
        for part in ("tmp", "new", "cur"):
            (self.path / part).mkdir(parents=True)
        (folder / "home" / "control").mkdir(parents=True)
        (folder / "home" / "control" / "me").write_text("isp.example\n")
        self.queue = folder / "queue"
        self.queue.write_text(QUEUE)
        self.queue.chmod(0o755)

    def put(self, name, recipient, sender="s@x", body=b"Subject: x\n\n.dot\n", age=10, prefix="ppp-"):
        path = self.path / "new" / name
        path.write_bytes(f"Return-Path: <{sender}>\nDelivered-To: {prefix}{recipient}\n".encode() + body)
        when = time.time() - age
        os.utime(path, (when, when))

    def left(self):
        return sorted(os.listdir(self.path / "new"))

    def run(self, program, *arguments):
        return subprocess.run(
            [BIN / program, self.path, "ppp-", *arguments],
            capture_output=True,
            env={
                "PATH": os.environ["PATH"],
                "PLUQ_HOME": str(self.folder / "home"),
                "QMAILQUEUE": str(self.queue),
                "QUEUED": str(self.folder),
            },
            timeout=60,
            check=False,
        )

    def read(self, name):
        return (self.folder / name).read_bytes()


@pytest.fixture
def maildir(tmp_path):
    return Maildir(tmp_path)


@pytest.mark.parametrize("pipelining", [True, False])
def test_messages_go_in_order_without_their_prefix(maildir, pipelining):
    host = SmtpHost(pipelining)
    maildir.put("b", "good1@h", age=20)
    maildir.put("a", "good2@h", age=10, sender='"a b"@c')
    maildir.put("c", "good3@h", prefix="other-")
    done = maildir.run("maildirsmtp", host.text, "me.example")
    assert done.returncode == 0
    assert host.messages == [b"Subject: x\r\n\r\n..dot\r\n"] * 2
    envelopes = [line for line in host.commands if line[:4] in (b"MAIL", b"RCPT", b"RSET")]
    assert envelopes == [
        b"MAIL FROM:<s@x>",
        b"RCPT TO:<good1@h>",
        b"RSET",
        b'MAIL FROM:<"a b"@c>',
        b"RCPT TO:<good2@h>",
    ]
    assert host.connections == 1
    assert maildir.left() == ["c"]
    assert b"new/b succeeded: 127.0.0.1 to: good1@h said: 250 taken\n" in done.stderr


def test_what_is_refused_for_good_is_sent_back(maildir, host):
    maildir.put("a", "bad@h")
    done = maildir.run("maildirsmtp", host.text, "me")
    assert done.returncode == 0
    assert maildir.left() == []
    assert maildir.read("envelope") == b"F\0Ts@x\0\0"
    bounce = maildir.read("bounce")
    assert b"<bad@h>:\n127.0.0.1 to: bad@h said: 550 no such user\n\n---" in bounce
    assert bounce.endswith(b"Return-Path: <s@x>\nDelivered-To: ppp-bad@h\nSubject: x\n\n.dot\n")


def test_what_is_put_off_stays_for_two_weeks(maildir, host):
    maildir.put("a", "later@h")
    maildir.put("b", "later@h", age=OLD)
    done = maildir.run("maildirsmtp", host.text, "me")
    assert done.returncode == 111
    assert maildir.left() == ["a"]
    assert b"This message is too old. Giving up.\n" in maildir.read("bounce")


def test_a_double_bounce_goes_to_the_postmaster_and_a_triple_one_nowhere(maildir, host):
    maildir.put("a", "bad@h", sender="")
    assert maildir.run("maildirsmtp", host.text, "me").returncode == 0
    assert maildir.read("envelope") == b"F#@[]\0Tpostmaster@isp.example\0\0"
    (maildir.folder / "envelope").unlink()
    maildir.put("b", "bad@h", sender="#@[]")
    done = maildir.run("maildirsmtp", host.text, "me")
    assert done.returncode == 0
    assert b"triple bounce" in done.stderr
    assert not (maildir.folder / "envelope").exists()
    assert maildir.left() == []


def test_a_host_that_is_away_costs_no_message(maildir):
    address = f"127.0.0.1:{free_port()}"
    maildir.put("a", "good@h", age=OLD)
    for program in ("maildirsmtp", "maildirqmtp"):
        done = maildir.run(program, address, *(["me"] if program == "maildirsmtp" else []))
        assert done.returncode == 111
        assert b"making no progress" in done.stderr
    assert maildir.left() == ["a"]


def test_a_connection_that_breaks_is_made_again(maildir):
    host = SmtpHost(drop_after=2)
    for name in "abc":
        maildir.put(name, "good@h")
    assert maildir.run("maildirsmtp", host.text, "me").returncode == 0
    assert host.connections == 2
    assert len(host.messages) == 4  # the second was sent again, as its answer never came
    assert maildir.left() == []


def test_a_message_without_a_last_newline_is_not_changed(maildir, host):
    maildir.put("a", "good@h", body=b"Subject: x\n\nhalf")
    assert maildir.run("maildirsmtp", host.text, "me").returncode == 111
    assert maildir.left() == ["a"]


def test_an_empty_maildir_is_success_without_a_connection(maildir, host):
    assert maildir.run("maildirsmtp", host.text, "me").returncode == 0
    assert host.connections == 0


def test_qmtp_carries_a_message_as_it_is(maildir):
    listener = socket.create_server(("127.0.0.1", 0))
    got = []

    def serve():
        connection, _ = listener.accept()
        with connection:
            for answer in (b"3:Kok,", b"4:Dno!,"):
                data = b""
                while not data.endswith(b",,"):
                    data += connection.recv(65536)
                got.append(data)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    maildir.put("a", "good@h", body=b"half", age=20)
    maildir.put("b", "bad@h", age=10)
    done = maildir.run("maildirqmtp", f"127.0.0.1:{listener.getsockname()[1]}")
    thread.join(10)
    listener.close()
    assert done.returncode == 0
    assert got[0] == b"5:\nhalf,3:s@x,9:6:good@h,,"
    assert b"new/a succeeded: 127.0.0.1 said: ok\n" in done.stderr
    assert b"127.0.0.1 said: no!\n" in maildir.read("bounce")
    assert maildir.left() == []


@pytest.mark.parametrize("program", ["maildirsmtp", "maildirqmtp"])
def test_a_missing_argument_is_told(program):
    done = subprocess.run([BIN / program, "dir"], capture_output=True, check=False)
    assert done.returncode == 100
    assert b"usage" in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", ("host", 25)),
        ("host:26", ("host", 26)),
        ("::1", ("::1", 25)),
        ("[::1]:26", ("::1", 26)),
        ("[::1]", ("::1", 25)),
    ],
)
def test_a_host_may_name_its_port(text, expected):
    assert host_and_port(text, 25) == expected


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Subject: x\n",
        b"Return-Path: <a>\nSubject: x\n",
        b"Return-Path: <a>\nDelivered-To: x",
        b"Return-Path: <a\nDelivered-To: x\n",
    ],
)
def test_a_message_without_its_envelope_is_left_alone(tmp_path, head):
    path = tmp_path / "message"
    path.write_bytes(head)
    with path.open("rb") as file:
        assert read_envelope(file) is None
