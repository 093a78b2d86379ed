"""Real POP3 clients through tcpserver, qmail-popup, a password program and qmail-pop3d."""

from __future__ import annotations

import os
import poplib
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
NOBODY = 65534
PATIENCE = 30
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

    def __init__(self, folder, port, profile):
        self.home = folder / "joe"
        self.port = port
        self.profile = profile

    def files(self, part):
        return sorted(path.name for path in (self.home / "Maildir" / part).iterdir())


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


@pytest.fixture(params=["stock", "profile"])
def server(request, tmp_path, under_tcpserver):
    make_mailbox(tmp_path / "joe")
    check = tmp_path / "checkpassword"
    check.write_text(CHECKPASSWORD.format(python=sys.executable, home=tmp_path / "joe", nobody=NOBODY))
    check.chmod(0o755)
    program = [f"{BIN}/qmail-popup", "pop.example", str(check), f"{BIN}/qmail-pop3d", "Maildir"]
    environment = {"PLUQ_PROFILE": "pop3"} if request.param == "profile" else {}
    return PopServer(tmp_path, under_tcpserver.start(program, environment), bool(environment))


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, timeout=PATIENCE, check=False, **options)


def wire(message):
    return message.replace(b"\n", b"\r\n") + b"\r\n"


def curl(server, path, *options):
    return run("curl", "-sS", *options, f"pop3://joe:sesame@127.0.0.1:{server.port}/{path}")


def test_curl_lists_and_fetches(server, needed):
    needed("curl")
    assert curl(server, "").stdout == b"".join(b"%d %d\r\n" % (n, len(m)) for n, m in enumerate(MESSAGES, 1))
    for number, message in enumerate(MESSAGES, 1):
        assert curl(server, number).stdout == wire(message)
    assert curl(server, "", "-X", "UIDL").stdout == b"1 1.x\r\n2 2.x\r\n3 3.x\r\n"


def test_curl_logs_in_with_apop_and_is_refused_with_another_password(server, needed):
    needed("curl")
    assert curl(server, 1, "--login-options", "AUTH=+APOP").stdout == wire(MESSAGES[0])
    refused = run("curl", "-sS", f"pop3://joe:wrong@127.0.0.1:{server.port}/")
    assert refused.returncode == 67  # CURLE_LOGIN_DENIED


def test_fetchmail_takes_everything_and_leaves_nothing(server, tmp_path, needed):
    needed("fetchmail")
    got = tmp_path / "got"
    rc = tmp_path / "fetchmailrc"
    rc.write_text(
        f"poll 127.0.0.1 protocol pop3 service {server.port} user joe password sesame fetchall nokeep no rewrite\n"
        f'  sslproto "" mda "cat >>{got}"\n'
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
    got = tmp_path / "got"
    (tmp_path / "getmailrc").write_text(
        f"[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {server.port}\n"
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
    with closing(poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE)) as client:
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
    with closing(poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE)) as client:
        if not server.profile:
            with pytest.raises(poplib.error_proto):
                client.capa()
            return
        assert {"USER", "UIDL", "TOP"} <= client.capa().keys()
        client.user("joe")
        client.pass_("sesame")
        assert "PIPELINING" in client.capa()
