"""Real POP3 clients: through tcpserver, qmail-popup, a password program and qmail-pop3d; and at the resident server, in clear and by TLS."""

from __future__ import annotations

import os
import poplib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from pluq.testing.stack import Stack, descendants, free_port, wait_until

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
NOBODY = 65534
PATIENCE = 60.0
CHECKPASSWORD = """#!{python}
import hashlib, os, sys
user, secret, stamp = os.read(3, 1024).split(b"\\0")[:3]
digest = hashlib.md5(stamp + b"sesame").hexdigest().encode()
if user != b"joe" or secret not in (b"sesame", digest):
    sys.exit(1)
os.chdir("{home}")
drop = ["setpriv", "--reuid", "{nobody}", "--regid", "{nobody}", "--clear-groups"] if os.getuid() == 0 else []
os.execvp([*drop, sys.argv[1]][0], [*drop, *sys.argv[1:]])
"""
MESSAGES = (
    b"Subject: one\n\nfirst\n.dot\n",
    b"Subject: two\n\nl1\nl2\nl3\n",
    b"Subject: big\n\n" + b"0123456789\n" * 30_000,
)


class PopServer:
    """Joe's mailbox behind a port."""

    def __init__(self, folder, port, kind):
        self.home = folder / "joe"
        self.port = port
        self.kind = kind
        self.tls = kind == "implicit TLS"

    def files(self, part):
        return sorted(path.name for path in (self.home / "Maildir" / part).iterdir())

    def client(self):
        """Connect with Python's own client."""
        if self.tls:
            return poplib.POP3_SSL("127.0.0.1", self.port, timeout=PATIENCE, context=trusting())
        return poplib.POP3("127.0.0.1", self.port, timeout=PATIENCE)


def trusting():
    """Return a context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def make_mailbox(home):
    for part in ("", "tmp", "new", "cur"):
        (home / "Maildir" / part).mkdir(parents=True, exist_ok=True)
    for number, message in enumerate(MESSAGES, 1):
        file = home / "Maildir" / "new" / f"{number}.x"
        file.write_bytes(message)
        os.utime(file, (time.time() - 100 + number,) * 2)
    if os.getuid() == 0:
        for path in [home, *home.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)


def password_program(folder):
    check = folder / "checkpassword"
    check.write_text(CHECKPASSWORD.format(python=sys.executable, home=folder / "joe", nobody=NOBODY))
    check.chmod(0o755)
    return str(check)


RESIDENT = ("resident", "implicit TLS", "STLS")
SITE = """
[profile.mx]
listen = ["127.0.0.1:{smtp}"]

[profile.pop]
protocol = "pop3"
listen = ["127.0.0.1:{pop}"]
checkpassword = ["{check}", "qmail-pop3d", "Maildir"]
"""
WITH_TLS = {
    "implicit TLS": 'plugins = ["tls"]\ntls.implicit = true\n',
    "STLS": 'plugins = ["tls"]\ntls.required = true\n',
}


@pytest.fixture
def stack():
    folder = Path(tempfile.mkdtemp(prefix="pluq-test."))
    folder.chmod(0o755)
    (folder / "stack").mkdir()
    made = Stack(folder / "stack")
    yield made
    if made.runs:
        made.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["stock", "profile", *RESIDENT])
def server(request, tmp_path):
    make_mailbox(tmp_path / "joe")
    check = password_program(tmp_path)
    kind = request.param
    if kind in RESIDENT:
        return PopServer(tmp_path, start_resident(request.getfixturevalue("stack"), check, kind), kind)
    program = [f"{BIN}/qmail-popup", "pop.example", check, f"{BIN}/qmail-pop3d", "Maildir"]
    environment = {"PLUQ_PROFILE": "pop3"} if kind == "profile" else {}
    return PopServer(tmp_path, request.getfixturevalue("under_tcpserver").start(program, environment), kind)


def start_resident(stack, check, kind):
    """Start a stack with a POP3 profile; return its port."""
    port = free_port()
    stack.control("pluq.toml", SITE.format(smtp=stack.port, pop=port, check=check) + WITH_TLS.get(kind, ""))
    if kind in WITH_TLS:
        stack.run("pluq", "tls", "self-signed")
    stack.listens_itself = True
    stack.start()
    return port


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, timeout=PATIENCE, check=False, **options)


def wire(message):
    return message.replace(b"\n", b"\r\n") + b"\r\n"


def curl(server, path, *options):
    secure = {"implicit TLS": ["-k"], "STLS": ["-k", "--ssl-reqd"]}.get(server.kind, [])
    scheme = "pop3s" if server.tls else "pop3"
    return run("curl", "-sS", *secure, *options, f"{scheme}://joe:sesame@127.0.0.1:{server.port}/{path}")


def test_curl_lists_and_fetches(server, needed):
    needed("curl")
    assert curl(server, "").stdout == b"".join(b"%d %d\r\n" % (n, len(m)) for n, m in enumerate(MESSAGES, 1))
    for number, message in enumerate(MESSAGES, 1):
        assert curl(server, number).stdout == wire(message)
    assert curl(server, "", "-X", "UIDL").stdout == b"1 1.x\r\n2 2.x\r\n3 3.x\r\n"


def test_curl_logs_in_with_apop_and_is_refused_with_another_password(server, needed):
    needed("curl")
    assert curl(server, 1, "--login-options", "AUTH=+APOP").stdout == wire(MESSAGES[0])
    refused = curl(server, "", "-u", "joe:wrong")
    assert refused.returncode == 67  # CURLE_LOGIN_DENIED


def test_fetchmail_takes_everything_and_leaves_nothing(server, tmp_path, needed):
    needed("fetchmail")
    got = tmp_path / "got"
    rc = tmp_path / "fetchmailrc"
    options = {"implicit TLS": "ssl no sslcertck", "STLS": 'sslproto "auto" no sslcertck'}
    secure = options.get(server.kind, 'sslproto ""')
    rc.write_text(
        f"poll 127.0.0.1 protocol pop3 service {server.port} user joe password sesame fetchall nokeep no rewrite\n"
        f'  {secure} mda "cat >>{got}"\n'
    )
    rc.chmod(0o600)
    home = {**os.environ, "HOME": str(tmp_path), "FETCHMAILHOME": str(tmp_path)}
    done = run("fetchmail", "-f", rc, "--invisible", "--nosyslog", env=home)
    assert done.returncode == 0, done.stderr
    text = got.read_bytes()
    assert all(message.partition(b"\n\n")[2] in text for message in MESSAGES)
    assert server.files("new") == server.files("cur") == []


def test_getmail_fetches_each_message_once(server, tmp_path, needed):
    needed("getmail")
    if server.kind == "STLS":
        pytest.skip("getmail knows no STLS")
    got = tmp_path / "got"
    (tmp_path / "getmailrc").write_text(
        f"[retriever]\ntype = SimplePOP3{'SSL' if server.tls else ''}Retriever\nserver = 127.0.0.1\nport = {server.port}\n"
        "username = joe\npassword = sesame\n"
        "[destination]\ntype = MDA_external\nallow_root_commands = true\nunixfrom = false\n"
        f"path = /bin/sh\narguments = ('-c', 'cat >>{got}; echo END >>{got}')\n"
        "[options]\nread_all = false\ndelivered_to = false\nreceived = false\n"
    )
    for _ in range(2):
        done = run("getmail", f"--getmaildir={tmp_path}")
        assert done.returncode == 0, done.stderr
    fetched = got.read_bytes().split(b"END\n")[:-1]
    assert len(fetched) == len(MESSAGES)
    assert all(any(message.partition(b"\n\n")[2] in text for text in fetched) for message in MESSAGES)
    assert len(server.files("cur")) == len(MESSAGES)


def test_poplib_deletes_only_what_it_marked(server):
    with closing(server.client()) as client:
        if server.kind == "STLS":
            client.stls(trusting())
        client.apop("joe", "sesame")
        assert client.stat() == (3, sum(map(len, MESSAGES)))
        assert client.top(2, 1)[1] == [b"Subject: two", b"", b"l1", b""]
        client.dele(2)
        client.quit()
    deadline = time.monotonic() + PATIENCE
    while server.files("cur") != ["1.x:2,", "3.x:2,"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_capa_is_for_profiles(server):
    with closing(server.client()) as client:
        if server.kind == "stock":
            with pytest.raises(poplib.error_proto):
                client.capa()
            return
        offered = client.capa().keys()
        assert {"USER", "UIDL", "TOP"} <= offered
        assert ("STLS" in offered) == (server.kind == "STLS")
        if server.kind == "STLS":
            with pytest.raises(poplib.error_proto, match="must issue STLS first"):
                client.user("joe")
            client.stls(trusting())
            assert "STLS" not in client.capa()
        client.user("joe")
        client.pass_("sesame")
        assert "PIPELINING" in client.capa()


# -- the resident server


@pytest.fixture
def resident(stack, tmp_path):
    make_mailbox(tmp_path / "joe")
    return PopServer(tmp_path, start_resident(stack, password_program(tmp_path), "resident"), "resident")


def talk(server, data):
    """Send it all at once; return everything that is answered."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock, sock.makefile("rb") as answers:
        sock.sendall(data)
        return answers.read()


def test_a_client_may_send_everything_at_once(resident):
    said = talk(resident, b"CAPA\r\nUSER joe\r\nPASS sesame\r\nSTAT\r\nDELE 1\r\nQUIT\r\n")
    assert said.startswith(b"+OK <")
    assert said.endswith(b".\r\n+OK \r\n+OK \r\n+OK 3 %d\r\n+OK \r\n+OK \r\n" % sum(map(len, MESSAGES)))
    assert resident.files("cur") == ["2.x:2,", "3.x:2,"]


def test_a_wrong_password_ends_the_session_and_leaves_the_mailbox_alone(resident):
    said = talk(resident, b"USER joe\r\nPASS wrong\r\nSTAT\r\n")
    assert said.endswith(b"+OK \r\n-ERR authorization failed\r\n")
    assert len(resident.files("new")) == len(MESSAGES)


def test_a_session_that_breaks_changes_nothing(resident):
    with socket.create_connection(("127.0.0.1", resident.port), PATIENCE) as sock, sock.makefile("rb") as answers:
        sock.sendall(b"USER joe\r\nPASS sesame\r\nDELE 1\r\n")
        for _ in range(4):
            answers.readline()
    with closing(resident.client()) as client:
        client.user("joe")
        client.pass_("sesame")
        assert client.stat()[0] == len(MESSAGES)
        client.quit()


def test_a_line_without_end_is_refused(resident):
    assert talk(resident, b"USER " + b"x" * 40_000).endswith(b"-ERR line too long\r\n")


def test_the_log_is_that_of_tcpserver_and_holds_no_password(resident, stack):
    talk(resident, b"USER joe\r\nPASS sesame\r\nQUIT\r\n")
    wait_until(lambda: "tcpserver: end 1 status 0" in stack.log.read_text(), "the end in the log")
    assert f"tcpserver: ok 1 mail.example.org:127.0.0.1:{resident.port} :127.0.0.1::" in stack.log.read_text()
    assert "sesame" not in stack.log.read_text()


def test_rules_say_who_may_read_mail(resident, stack):
    stack.control("tcp.pop3", "127.:deny")

    def is_dropped():
        with socket.create_connection(("127.0.0.1", resident.port), PATIENCE) as sock:
            return sock.recv(100) == b""

    wait_until(is_dropped, "the rules count")


def test_term_ends_idle_clients(resident, stack):
    with socket.create_connection(("127.0.0.1", resident.port), PATIENCE) as sock, sock.makefile("rb") as answers:
        assert answers.readline().startswith(b"+OK <")
        stack.stop()
        assert answers.read() == b""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_the_server_is_not_root_and_the_session_is_the_users(resident, stack):
    if not stack.split:
        pytest.skip("needs the qmail users")
    pids = stack.role_pids()
    assert user_of(pids["pop3d"]) == stack.home.ids().uid["qmailp"]
    assert user_of(pids["logins"]) == 0
    with closing(resident.client()) as client:
        client.user("joe")
        client.pass_("sesame")
        (session,) = descendants(pids["logins"])
        assert user_of(session) == NOBODY
        environment = Path(f"/proc/{session}/environ").read_bytes().split(b"\0")
        assert b"TCPREMOTEIP=127.0.0.1" in environment


def user_of(pid):
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["Uid"].split()[0])
