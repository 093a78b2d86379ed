"""The resident server as a process of its own on real sockets."""

import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pluq.config import Home
from pluq.smtpd.server import Listener, run

PATIENCE = 60.0

# A queue program that keeps what it gets: message and envelope, in one file each.
PROGRAM = """#!/bin/sh
n=$(mktemp {folder}/XXXXXX)
cat >"$n"
cat <&1 >"$n.envelope"
env >"$n.env"
"""


class Server:
    """A server in a forked process, its log in a file, its mail in a folder."""

    def __init__(self, folder: Path, **controls: str) -> None:
        self.folder = folder
        self.home = Home(str(folder / "home"))
        self.mail = folder / "mail"
        self.mail.mkdir()
        (folder / "home/control").mkdir(parents=True)
        program = folder / "home/control/program"
        program.write_text(PROGRAM.format(folder=self.mail))
        program.chmod(0o755)
        self.control(me="mx.example.org\n", rcpthosts="example.org\n", **controls)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.pid = 0

    def control(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / "home/control" / name.replace("_", ".")).write_text(text)

    def start(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(log, 2)
                os.environ["QMAILQUEUE"] = "control/program"
                code = run(self.home, [Listener(self.sock)])
            finally:
                os._exit(code)
        self.connect().close()
        until(lambda: "tcpserver: end " in self.log(), "the first connection has ended")

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE, source_address=(source, 0))

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE)

    def signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def stop(self) -> int:
        """End it; return its exit code."""
        if self.pid == 0:
            return 0
        pid, self.pid = self.pid, 0
        os.kill(pid, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def messages(self) -> list[str]:
        return [path.read_text() for path in sorted(self.mail.iterdir()) if not path.suffix]

    def variables(self) -> dict[str, str]:
        (path,) = self.mail.glob("*.env")
        return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def banner(sock: socket.socket) -> bytes:
    with sock.makefile("rb") as lines:
        return lines.readline()


def greeting(server: "Server", source: str = "127.0.0.1") -> bytes:
    """Connect, and return the first line."""
    with server.connect(source) as sock:
        return banner(sock)


@pytest.fixture
def server(tmp_path):
    tmp_path.chmod(0o755)
    made = Server(tmp_path)
    yield made
    made.stop()
    made.sock.close()


def send(server: Server, recipient: str = "ann@example.org") -> None:
    with server.client() as client:
        client.sendmail("joe@client.example", [recipient], "Subject: hi\r\n\r\nbody\r\n")


def test_mail_from_a_real_client_reaches_the_queue_program(server):
    server.start()
    send(server)
    (message,) = server.messages()
    assert message.startswith("Received: from unknown (HELO ")
    assert "(127.0.0.1)\n  by mx.example.org with SMTP; " in message
    assert message.endswith("\nSubject: hi\n\nbody\n")


def test_the_log_is_that_of_tcpserver(server):
    server.start()
    send(server)
    server.stop()
    log = server.log()
    assert "tcpserver: status: 1/1000\ntcpserver: pid 2 from 127.0.0.1\n" in log
    assert f"tcpserver: ok 2 mx.example.org:127.0.0.1:{server.port} :127.0.0.1::" in log
    assert "tcpserver: end 2 status 0\ntcpserver: status: 0/1000\n" in log
    assert "tcpserver: end 1 status 256\n" in log


@pytest.mark.skipif(not shutil.which("tcprules"), reason="needs Debian's ucspi-tcp")
def test_rules_made_by_tcprules_count_and_a_change_counts_at_once(server):
    def rules(text: str) -> None:
        path = server.home.control("tcp.smtp.cdb")
        subprocess.run(["tcprules", path, path + ".tmp"], input=text.encode(), check=True)

    rules(
        f'127.0.0.2:deny\n127.:allow,RELAYCLIENT="",DATABYTES="1000",TCPLOCALHOST="other.example",OWN="{server.port}"\n'
    )
    server.start()
    send(server, "far@elsewhere.example")
    assert "by other.example with" in server.messages()[0]
    assert server.variables()["OWN"] == str(server.port)
    assert server.variables()["TCPREMOTEIP"] == "127.0.0.1"
    assert server.variables()["PROTO"] == "TCP"
    with server.connect("127.0.0.2") as denied:
        assert denied.recv(100) == b""
    rules(":deny\n")
    until(lambda: greeting(server) == b"", "the new rules count")


def test_rules_in_text_form_count_where_there_is_no_cdb(server):
    server.control(tcp_smtp="127.0.0.2:deny\n")
    server.start()
    with server.connect("127.0.0.2") as denied, server.connect() as allowed:
        assert denied.recv(100) == b""
        assert banner(allowed) == b"220 mx.example.org ESMTP\r\n"


def test_rules_that_break_are_told_and_the_old_ones_go_on(server):
    server.control(tcp_smtp="127.0.0.2:deny\n")
    server.start()
    server.control(tcp_smtp="127.0.0.2:denyall\n127.0.0.1:deny\n")
    server.signal(signal.SIGHUP)
    until(lambda: "cannot parse this rule" in server.log(), "the fault is logged")
    assert f"{server.home.control('tcp.smtp')}:1: " in server.log()
    assert greeting(server) == b"220 mx.example.org ESMTP\r\n"


def test_control_files_count_as_soon_as_they_change(server):
    server.start()
    server.control(smtpgreeting="new.example.org\n")
    until(lambda: greeting(server) == b"220 new.example.org ESMTP\r\n", "the new greeting")


def test_one_address_may_have_only_so_many_connections(server):
    server.control(tcp_smtp=':allow,MAXCONNIP="2"\n')
    server.start()
    with ExitStack() as stack:
        first, second = (stack.enter_context(server.connect("127.0.0.3")) for _ in range(2))
        assert banner(first).startswith(b"220 ")
        assert banner(second).startswith(b"220 ")
        third = stack.enter_context(server.connect("127.0.0.3"))
        assert banner(third) == b"421 too many connections from your address (#4.7.0)\r\n"
        other = stack.enter_context(server.connect("127.0.0.4"))
        assert banner(other).startswith(b"220 ")
        first.close()
        until(lambda: greeting(server, "127.0.0.3").startswith(b"220 "), "the place is free again")


def test_beyond_the_limit_clients_wait_until_a_place_is_free(tmp_path):
    tmp_path.chmod(0o755)
    server = Server(tmp_path, concurrencyincoming="3\n")
    server.start()
    try:
        with ExitStack() as stack:
            held = [stack.enter_context(server.connect()) for _ in range(3)]
            assert all(banner(sock).startswith(b"220 ") for sock in held)
            waiting = stack.enter_context(server.connect())
            waiting.settimeout(0.3)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
            held[0].close()
            waiting.settimeout(PATIENCE)
            assert waiting.recv(100) == b"220 mx.example.org ESMTP\r\n"
    finally:
        server.stop()
        server.sock.close()


def test_a_silent_client_is_told_to_go(tmp_path):
    tmp_path.chmod(0o755)
    server = Server(tmp_path, timeoutsmtpd="1\n")
    server.start()
    try:
        with server.connect() as sock, sock.makefile("rb") as lines:
            assert lines.readlines() == [b"220 mx.example.org ESMTP\r\n", b"451 timeout (#4.4.2)\r\n"]
    finally:
        server.stop()
        server.sock.close()


def test_term_lets_a_message_end_and_sends_idle_clients_away(server):
    server.start()
    idle, busy = server.connect(), server.connect()
    with idle, busy, idle.makefile("rb") as idle_lines, busy.makefile("rb") as busy_lines:
        assert idle_lines.readline().startswith(b"220 ")
        busy.sendall(b"MAIL FROM:<a@b>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nSubject: x\r\n")
        assert [busy_lines.readline()[:3] for _ in range(4)] == [b"220", b"250", b"250", b"354"]
        server.signal(signal.SIGTERM)
        assert idle_lines.readlines() == [b"421 service going down, try again (#4.3.2)\r\n"]
        busy.sendall(b"\r\nlate\r\n.\r\n")
        assert busy_lines.readline().startswith(b"250 ok ")
        assert busy_lines.readlines() == [b"421 service going down, try again (#4.3.2)\r\n"]
    pid, server.pid = server.pid, 0
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert server.messages()[0].endswith("late\n")


def test_a_client_that_closes_its_side_early_still_gets_its_replies(server):
    server.start()
    with server.connect() as sock, sock.makefile("rb") as lines:
        sock.sendall(b"MAIL FROM:<a@b>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n")
        sock.shutdown(socket.SHUT_WR)
        said = lines.readlines()
    assert [line[:3] for line in said] == [b"220", b"250", b"250", b"354", b"250", b"250"]
    assert len(server.messages()) == 1


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_a_client_that_does_not_read_is_not_answered_without_end(server):
    server.start()
    before = resident_bytes(server.pid)  # it was forked from the tests, which are large
    with server.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(1)
        try:
            for _ in range(50):
                sock.sendall(b"HELP\r\n" * 10000)
        except OSError:
            pass  # stopped reading, or hung up: both are right
        assert resident_bytes(server.pid) - before < 30 << 20
    send(server)


def test_several_workers_share_the_sockets(server):
    server.control(pluq_toml="[profile.stock]\nworkers = 2\n")
    server.start()
    for _ in range(4):
        send(server)
    assert len(server.messages()) == 4
    with open(f"/proc/{server.pid}/task/{server.pid}/children") as file:
        children = [int(pid) for pid in file.read().split()]
    assert len(children) == 2
    os.kill(children[0], signal.SIGKILL)

    def is_replaced() -> bool:
        now = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        return len(now) == 2 and str(children[0]) not in now

    until(is_replaced, "a new worker")
    send(server)
    assert server.stop() == 0
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


TLS_PLUGIN = """
import ssl
from pluq import Plugin, hook

class SiteTls(Plugin):
    name = "sitetls"

    def context_of(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.context.home.control("cert.pem"))
        return context

    @hook
    async def smtp_preamble(self, session, connection):
        if "IMPLICIT" in __import__("os").environ:
            await connection.start_tls(self.context_of())

    @hook
    def smtp_capabilities(self, session):
        return [] if session.tls else [b"STARTTLS"]

    @hook
    def smtp_verbs(self):
        return {b"STARTTLS": self.starttls}

    async def starttls(self, session, argument, connection):
        connection.reply(b"220 ready for tls\\r\\n")
        await connection.start_tls(self.context_of())
"""


@pytest.fixture
def tls_server(server, monkeypatch):
    """A server with a plugin of the site that knows TLS."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    pem = server.home.control("cert.pem")
    key = [
        *[
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=mx.example.org",
        ],
        "-keyout",
        pem,
    ]
    subprocess.run(["openssl", "req", "-x509", *key, "-out", pem + ".crt"], check=True, capture_output=True)
    with open(pem, "a") as both, open(pem + ".crt") as certificate:
        both.write(certificate.read())
    (server.folder / "home/plugins").mkdir()
    (server.folder / "home/plugins/sitetls.py").write_text(TLS_PLUGIN)
    server.control(pluq_toml='[profile.stock]\nplugins = ["sitetls"]\n')
    return server


def trusting_all() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_starttls_encrypts_what_follows(tls_server, size):
    tls_server.start()
    with tls_server.client() as client:
        client.starttls(context=trusting_all())
        client.sendmail("a@b", ["ann@example.org"], "Subject: hi\r\n\r\n" + ("x" * 62 + "\r\n") * (size // 63 + 1))
    (message,) = tls_server.messages()
    assert " with ESMTPS (TLS_" in message
    assert len(message) > size


def test_what_was_sent_along_with_starttls_in_the_clear_is_never_carried_out(tls_server):
    tls_server.start()
    with tls_server.connect() as sock:
        assert sock.recv(100).startswith(b"220 ")
        sock.sendall(b"EHLO c\r\nMAIL FROM:<evil@b>\r\nSTARTTLS\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n")
        said = b""
        while not said.endswith(b"ready for tls\r\n"):
            said += sock.recv(1000)
        with trusting_all().wrap_socket(sock) as encrypted:
            encrypted.sendall(b"NOOP\r\nDATA\r\nQUIT\r\n")
            with encrypted.makefile("rb") as lines:
                assert [line[:3] for line in lines] == [b"250", b"503", b"221"]


def test_tls_may_come_before_the_banner(tls_server, monkeypatch):
    monkeypatch.setenv("IMPLICIT", "1")
    tls_server.start()
    with smtplib.SMTP_SSL("127.0.0.1", tls_server.port, timeout=PATIENCE, context=trusting_all()) as client:
        client.sendmail("a@b", ["ann@example.org"], "Subject: hi\r\n\r\nbody\r\n")
    assert " with ESMTPS (TLS_" in tls_server.messages()[0]


def test_a_client_that_speaks_no_tls_after_starttls_is_hung_up_on(tls_server):
    tls_server.start()
    with tls_server.connect() as sock, sock.makefile("rb") as lines:
        sock.sendall(b"STARTTLS\r\n")
        assert [lines.readline()[:3] for _ in range(2)] == [b"220", b"220"]
        sock.sendall(b"MAIL FROM:<a@b>\r\n" * 10)
        try:
            assert b"250" not in lines.read()
        except ConnectionResetError:
            pass
    until(lambda: "TLS handshake failed" in tls_server.log(), "the failure is logged")
    until(lambda: tls_server.log().endswith("tcpserver: status: 0/1000\n"), "its place is free again")
    assert greeting(tls_server).startswith(b"220 ")


@pytest.mark.integration
def test_idle_connections_cost_little_memory(tmp_path):
    tmp_path.chmod(0o755)
    count = 2000
    server = Server(tmp_path, concurrencyincoming=f"{count + 100}\n")
    server.start()

    def resident() -> int:
        with open(f"/proc/{server.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096

    try:
        with ExitStack() as stack:
            before = resident()
            for number in range(count):
                sock = stack.enter_context(server.connect(f"127.0.{1 + number // 200}.{1 + number % 200}"))
                sock.sendall(b"EHLO client.example\r\n")
                assert sock.recv(200).startswith(b"220 ")
            assert (resident() - before) / count < 6144
    finally:
        server.stop()
        server.sock.close()
