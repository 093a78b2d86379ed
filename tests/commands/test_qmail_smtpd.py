"""qmail-smtpd as a program: on pipes, files and sockets, and under the real tcpserver with real rules."""

import os
import shutil
import smtplib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pluq.testing.ports import free_port

QMAIL_SMTPD = str(Path(sys.executable).parent / "qmail-smtpd")
PROGRAM = "#!/bin/sh\ncat >{folder}/message\ncat <&1 >{folder}/envelope\nenv >{folder}/env\n"
STREAM = (
    b"HELO there\r\nMAIL FROM:<a@b>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nSubject: hi\r\n\r\nbody\r\n.\r\nQUIT\r\n"
)
CODES = ["220", "250", "250", "250", "354", "250", "221"]

pytestmark = pytest.mark.skipif(
    not os.path.exists(QMAIL_SMTPD), reason="needs the programs in the environment's bin folder"
)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "control").mkdir()
    (tmp_path / "control/me").write_text("mx.example.org\n")
    (tmp_path / "control/rcpthosts").write_text("example.org\n")
    program = tmp_path / "program"
    program.write_text(PROGRAM.format(folder=tmp_path))
    program.chmod(0o755)
    tmp_path.chmod(0o777)
    return tmp_path


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PLUQ_HOME": str(home), "QMAILQUEUE": str(home / "program"), **more}


def codes(said: bytes) -> list[str]:
    return [line[:3].decode() for line in said.splitlines()]


def test_a_pipe_is_served_to_its_end(home):
    done = subprocess.run([QMAIL_SMTPD], input=STREAM, env=environment(home), capture_output=True, timeout=60)
    assert (codes(done.stdout), done.returncode, done.stderr) == (CODES, 0, b"")
    assert (home / "envelope").read_bytes() == b"Fa@b\0Tann@example.org\0\0"
    assert (home / "message").read_bytes().endswith(b"\nSubject: hi\n\nbody\n")


def test_a_file_is_served_as_a_pipe_is(home):
    (home / "stream").write_bytes(STREAM)
    with open(home / "stream", "rb") as stream:
        done = subprocess.run([QMAIL_SMTPD], stdin=stream, env=environment(home), capture_output=True, timeout=60)
    assert (codes(done.stdout), done.returncode) == (CODES, 0)


def test_a_socket_on_both_descriptors_is_served(home):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = subprocess.Popen([QMAIL_SMTPD], stdin=theirs, stdout=theirs, env=environment(home))
        theirs.close()
        ours.settimeout(60)
        ours.sendall(STREAM)
        said = b""
        while piece := ours.recv(4096):
            said += piece
        assert server.wait(60) == 0
    assert codes(said) == CODES


def test_the_end_of_input_is_no_quit(home):
    done = subprocess.run([QMAIL_SMTPD], input=b"NOOP\r\n", env=environment(home), capture_output=True, timeout=60)
    assert (codes(done.stdout), done.returncode) == (["220", "250"], 1)


def test_a_reader_that_is_gone_ends_it_quietly(home):
    server = subprocess.Popen(
        [QMAIL_SMTPD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home)
    )
    assert server.stdin and server.stdout and server.stderr
    server.stdout.readline()
    server.stdout.close()
    server.stdin.write(b"NOOP\r\nNOOP\r\n")
    server.stdin.close()
    assert server.wait(60) == 1
    assert server.stderr.read() == b""
    server.stderr.close()


def test_control_files_that_cannot_be_read_are_421(home):
    (home / "control/rcpthosts").unlink()
    (home / "control/rcpthosts").mkdir()
    done = subprocess.run([QMAIL_SMTPD], input=STREAM, env=environment(home), capture_output=True, timeout=60)
    assert (done.stdout, done.returncode) == (b"421 unable to read controls (#4.3.0)\r\n", 1)


def test_a_profile_that_is_not_there_is_an_error_that_names_it(home):
    done = subprocess.run(
        [QMAIL_SMTPD], input=STREAM, env=environment(home, PLUQ_PROFILE="mx"), capture_output=True, timeout=60
    )
    assert done.stdout.startswith(b"421 ")
    assert b"mx" in done.stderr


def test_neither_asyncio_nor_pluggy_is_imported_for_a_stock_session(home):
    code = (
        "import sys; from pluq.commands.qmail_smtpd import main; main();"
        "sys.exit(' '.join(sorted({'asyncio', 'pluggy', 'aiosmtpd', 'ssl', 'email', 'uvloop', 'argparse'} & sys.modules.keys())) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=STREAM, env=environment(home), capture_output=True, timeout=60
    )
    assert done.stderr == b""
    assert done.returncode == 0


@pytest.mark.skipif(not shutil.which("tcprules"), reason="needs Debian's ucspi-tcp")
def test_under_tcpserver_with_rules_made_by_tcprules(home, tmp_path):
    rules = f'127.0.0.2:deny\n127.0.0.3:allow,RELAYCLIENT="",QMAILQUEUE="{home}/program"\n:allow\n'
    cdb = str(tmp_path / "tcp.smtp.cdb")
    subprocess.run(["tcprules", cdb, cdb + ".tmp"], input=rules.encode(), check=True)
    port = free_port()
    command = ["tcpserver", "-v", "-HRl", "mx.local", "-x", cdb, "127.0.0.1", str(port), QMAIL_SMTPD]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, env=environment(home), stderr=log)
    try:
        allowed = connect(port, "127.0.0.3", server)
        with allowed:
            allowed.sendmail("a@b", ["x@far.example"], "Subject: hi\r\n\r\nbody\r\n")
        with socket.create_connection(("127.0.0.1", port), 60, ("127.0.0.2", 0)) as denied:
            assert denied.recv(100) == b""
        with connect(port, "127.0.0.4", server) as other, pytest.raises(smtplib.SMTPRecipientsRefused):
            other.sendmail("a@b", ["x@far.example"], "Subject: hi\r\n\r\nbody\r\n")
    finally:
        server.terminate()
        server.wait(60)
    message = (home / "message").read_bytes()
    assert b"(127.0.0.3)\n  by mx.local with SMTP; " in message
    assert (home / "envelope").read_bytes() == b"Fa@b\0Tx@far.example\0\0"


def connect(port: int, source: str, server: subprocess.Popen[bytes]) -> smtplib.SMTP:
    """Connect as soon as tcpserver listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return smtplib.SMTP("127.0.0.1", port, timeout=60, source_address=(source, 0))
        except ConnectionRefusedError:
            assert server.poll() is None and time.monotonic() < deadline, "tcpserver does not listen"
            time.sleep(0.02)
