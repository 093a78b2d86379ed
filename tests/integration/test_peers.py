"""Mail goes to and comes from other people's mail systems: Postfix, smtp-sink, tcpserver."""

import os
import smtplib
import socket
import subprocess

import pytest
from bench import processes
from bench.peers import DOMAIN as POSTFIX_DOMAIN
from bench.peers import RECIPIENT, Postfix
from bench.setups import missing

pytestmark = pytest.mark.integration


@pytest.fixture
def postfix(open_folder, new_stack):
    """A running private Postfix, whose mail for other domains goes to a stack of ours, which is not started yet."""
    if why := missing(Postfix):
        pytest.skip(why)
    stack = new_stack()
    peer = Postfix(str(open_folder / "postfix"), stack.port)
    try:
        peer.start()
        yield peer, stack
    finally:
        peer.stop()


def test_pluq_relays_to_postfix(postfix, until):
    peer, stack = postfix
    stack.control("rcpthosts", f"example.org\n{POSTFIX_DOMAIN}")
    stack.control("smtproutes", f"{POSTFIX_DOMAIN}:127.0.0.1:{peer.port}")
    stack.start()
    stack.send("to postfix", to=f"{RECIPIENT}@{POSTFIX_DOMAIN}")
    stack.wait_empty("mess/*/*", "intd/*")
    (name,) = until(lambda: os.listdir(peer.new), "a delivery by Postfix")
    with open(f"{peer.new}/{name}") as file:
        assert "Subject: to postfix\n" in file.read()


def test_postfix_relays_to_pluq(postfix):
    peer, stack = postfix
    stack.start()
    with smtplib.SMTP("127.0.0.1", peer.port, timeout=30) as client:
        client.sendmail("a@example.net", ["joe@example.org"], "Subject: from postfix\n\nx\n")
    stack.wait_mail("from postfix")


def test_pluq_relays_many_to_smtp_sink(new_stack, tool):
    sink, source = tool("smtp-sink", "postfix"), tool("smtp-source", "postfix")
    stack, other = new_stack(), new_stack(name="port")
    count = 200
    stack.control("rcpthosts", "sink.example")
    stack.control("smtproutes", f"sink.example:127.0.0.1:{other.port}")
    command = [sink, f"127.0.0.1:{other.port}", "100"]
    if os.getuid() == 0:
        command[1:1] = ["-u", "nobody"]
    server = subprocess.Popen(command)
    try:
        stack.start()
        load = ["-s", "10", "-m", str(count), "-l", "4096", "-f", "a@example.net", "-t", "user@sink.example"]
        subprocess.run([source, *load, f"127.0.0.1:{stack.port}"], check=True, timeout=60)
        stack.wait_empty("mess/*/*", "intd/*")
    finally:
        server.kill()
        server.wait()
    assert stack.log.read_text().count(": success: 127.0.0.1_accepted_message.") == count


def test_under_tcpserver_with_real_tcprules(new_stack, tool, until):
    tcpserver, tcprules = tool("tcpserver", "ucspi-tcp"), tool("tcprules", "ucspi-tcp")
    stack = new_stack()
    stack.control("smtproutes", ":127.0.0.1:1")  # nobody is there: the message for the relay stays
    stack.start()
    rules, cdb = f"{stack.folder}/tcp.smtp", f"{stack.folder}/tcp.smtp.cdb"
    text = b'127.0.0.1:allow,RELAYCLIENT="@relayed.example"\n127.0.0.2:deny\n:allow\n'
    subprocess.run([tcprules, cdb, f"{rules}.tmp"], input=text, check=True)
    other = new_stack(name="port")
    command = [tcpserver, "-RHl0", "-x", cdb, "127.0.0.1", str(other.port), f"{stack.home.bin}/qmail-smtpd"]
    server = subprocess.Popen(command, env=stack.environment())
    try:
        until(lambda: greets(other.port), "a greeting under tcpserver")
        with smtplib.SMTP("127.0.0.1", other.port, timeout=30) as client:
            client.sendmail("a@example.net", ["joe@example.org"], "Subject: under tcpserver\n\nx\n")
            code, _ = client.mail("a@example.net")
            assert code == 250
            assert client.rcpt("user@foreign.example")[0] == 250
        with pytest.raises((OSError, smtplib.SMTPException)):
            smtplib.SMTP("127.0.0.1", other.port, timeout=30, source_address=("127.0.0.2", 0)).noop()
    finally:
        processes.end(server.pid)
        server.returncode = 0
    # RELAYCLIENT is appended to every recipient.
    until(lambda: b"joe@example.org@relayed.example" in stack.log.read_bytes(), stack.told)


def greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            return sock.recv(100).startswith(b"220")
    except OSError:
        return False


def test_we_deliver_by_qmtp_to_a_stock_qmail(new_stack, tool, until):
    """PLUQ_STOCK_QMAIL is the home of a stock qmail; its qmail-qmtpd queues with a program of ours, so that nothing there changes."""
    stock = os.environ.get("PLUQ_STOCK_QMAIL", "")
    if not os.path.exists(f"{stock}/bin/qmail-qmtpd"):
        pytest.skip("PLUQ_STOCK_QMAIL names no home of a stock qmail")
    tcpserver = tool("tcpserver", "ucspi-tcp")
    stack, other = new_stack(), new_stack(name="port")
    queue = f"{other.folder}/queue-program"
    with open(queue, "w") as file:
        file.write(f"#!/bin/sh\ncat > {other.folder}/message\ncat <&1 > {other.folder}/envelope.tmp\n")
        file.write(f"mv {other.folder}/envelope.tmp {other.folder}/envelope\n")
    os.chmod(queue, 0o755)
    environment = {**os.environ, "QMAILQUEUE": queue, "RELAYCLIENT": ""}
    command = [tcpserver, "-RHl0", "127.0.0.1", str(other.port), f"{stock}/bin/qmail-qmtpd"]
    server = subprocess.Popen(command, env=environment)
    try:
        until(lambda: listens(other.port), "a qmail-qmtpd under tcpserver")
        stack.control("rcpthosts", "example.org\nfar.example")
        stack.control("qmtproutes", f"far.example:127.0.0.1:{other.port}")
        stack.control("pluq.toml", '[remote]\nplugins = ["qmtp"]')
        stack.start()
        stack.send("by qmtp", to="user@far.example")
        stack.wait_empty("mess/*/*", "intd/*")
        until(lambda: os.path.exists(f"{other.folder}/envelope"), "an envelope")
    finally:
        processes.end(server.pid)
        server.returncode = 0
    with open(f"{other.folder}/message") as message, open(f"{other.folder}/envelope", "rb") as envelope:
        text = message.read()
        assert "with QMTP;" in text
        assert "Subject: by qmtp\n" in text
        assert envelope.read() == b"Fsender@example.net\0Tuser@far.example\0\0"


def listens(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5):
            return True
    except OSError:
        return False
