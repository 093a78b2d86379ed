"""pluq send-test: a real message through a real stack, and what is said about it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from pluq.testing.stack import BIN

pytestmark = pytest.mark.integration


def send_test(stack, *arguments, **environment):
    command = [str(BIN / "pluq"), "send-test", *arguments, "--home", stack.home.path]
    variables = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=variables)


@pytest.fixture
def running(new_stack):
    stack = new_stack()
    stack.control("smtproutes", "far.example:127.0.0.1:1")
    stack.control("rcpthosts", "example.org\nfar.example")
    stack.control("locals", "example.org\nmail.example.org")
    (Path(stack.home.alias) / ".qmail-all").write_text("&joe@example.org\n")
    return stack.start()


def test_a_message_through_the_queue_is_followed_to_the_mailbox(running):
    told = send_test(running, "joe@example.org")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Delivered to joe@example.org: written to 1 mailbox." in told.stdout
    assert running.subjects()[0].startswith("pluq send-test ")


def test_a_forward_is_followed(running):
    told = send_test(running, "all@example.org")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Delivered to all@example.org: forwarded 1 time." in told.stdout
    assert "Delivered to joe@example.org: written to 1 mailbox." in told.stdout


def test_a_message_by_smtp_is_followed_as_well(running):
    told = send_test(running, "joe@example.org", "--server", f"127.0.0.1:{running.port}")
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"Connected to 127.0.0.1 port {running.port}, without TLS." in told.stdout
    assert "written to 1 mailbox" in told.stdout


def test_each_bad_end_has_its_words_and_its_exit_code(running):
    refused = send_test(running, "x@relay.example", "--server", f"127.0.0.1:{running.port}")
    assert (refused.returncode, refused.stdout.splitlines()[-1][:36]) == (100, "The server refuses the recipient: 55")
    deferred = send_test(running, "x@far.example")
    assert deferred.returncode == 111
    assert "stays in the queue and is tried again" in deferred.stdout
    failed = send_test(running, "nobody-there@example.org", "--from", "joe@example.org")
    assert failed.returncode == 100
    assert "A bounce goes to the sender." in failed.stdout
    nobody = send_test(running, "joe@example.org", "--server", "127.0.0.1:1")
    assert nobody.returncode == 111
    assert "No SMTP server answers at 127.0.0.1 port 1" in nobody.stdout


def test_the_log_is_followed_where_nobody_can_be_asked(running):
    told = send_test(running, "joe@example.org", "--log", str(running.log))
    assert told.returncode == 0, told.stdout + told.stderr
    assert "written to 1 mailbox" in told.stdout


def test_a_message_that_is_not_taken_up_in_time_is_told(running):
    pid = running.role_pids()["lspawn"]
    os.kill(pid, signal.SIGSTOP)
    try:
        told = send_test(running, "joe@example.org", "--timeout", "1")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert told.returncode == 111
    assert "Not over within 1 s." in told.stdout


def test_a_profile_with_tls_and_a_login_is_used_as_a_mail_program_would(new_stack):
    stack = new_stack(single=True)  # others may not be able to reach this Python, whose libraries these plugins import
    stack.listens_itself = True
    stack.run("pluq", "tls", "self-signed")
    stack.run("pluq", "auth", "passwd", "joe", input=b"secret\n")
    Path(stack.home.control("pluq.toml")).write_text(
        f'[profile.submission]\nlisten = ["127.0.0.1:{stack.port}"]\nplugins = ["tls", "auth"]\n'
        "tls.required = true\nauth.required = true\n"
    )
    stack.start()
    without = send_test(stack, "joe@example.org", "--profile", "submission")
    assert without.returncode == 100, without.stdout + without.stderr
    wrong = send_test(stack, "joe@example.org", "--profile", "submission", "--login", "joe", PLUQ_TEST_PASSWORD="no")
    assert wrong.returncode == 100
    assert "The server refuses the login joe: 535" in wrong.stdout
    told = send_test(stack, "joe@example.org", "--profile", "submission", "--login", "joe", PLUQ_TEST_PASSWORD="secret")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "STARTTLS, TLSv1.3" in told.stdout
    assert "Logged in as joe." in told.stdout


def test_a_profile_that_does_not_exist_is_named(running):
    told = send_test(running, "joe@example.org", "--profile", "mxx")
    assert (told.returncode, "no profile 'mxx'" in told.stderr) == (111, True)
