"""The running stack: mail goes in over SMTP or by command, and comes out where it belongs."""

import os
import smtplib
import subprocess
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

IDLE_MIB = 150


@pytest.mark.parametrize("single", [True, False], ids=["one user", "qmail users"])
def test_a_message_over_smtp_is_delivered(new_stack, single):
    stack = new_stack(single).start()
    stack.send("hello")
    stack.wait_mail("hello")
    (path,) = (stack.folder / "joe" / "Maildir" / "new").iterdir()
    text = path.read_text()
    assert text.startswith("Return-Path: <sender@example.net>\nDelivered-To: joe@example.org\nReceived: (qmail ")
    assert text.endswith("\nSubject: hello\n\nbody of hello\n")
    stack.wait_empty("mess/*/*", "intd/*")


def test_swaks_delivers(stack, tool):
    swaks = tool("swaks", "swaks")
    command = [swaks, "--server", f"127.0.0.1:{stack.port}", "--from", "a@example.net", "--to", "joe@example.org"]
    subprocess.run([*command, "--header", "Subject: by swaks"], check=True, capture_output=True, timeout=60)
    stack.wait_mail("by swaks")


def test_sendmail_and_qmail_inject_deliver(stack):
    stack.run("sendmail", "joe@example.org", input=b"Subject: by sendmail\n\nx\n")
    stack.run("qmail-inject", input=b"To: joe@example.org\nSubject: by inject\n\nx\n")
    stack.wait_mail("by sendmail", "by inject")


def test_a_foreign_domain_is_refused(stack):
    with stack.client() as client, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        client.sendmail("a@example.net", ["user@elsewhere.example"], "x\n")
    assert refused.value.recipients["user@elsewhere.example"][0] == 553


def test_an_unknown_recipient_bounces_to_the_sender(stack):
    stack.send("lost", sender="joe@example.org", to="nobody-such@example.org")
    stack.wait_mail("failure notice")
    stack.wait_empty("mess/*/*", "intd/*")


def test_many_clients_at_once_lose_nothing(stack):
    def session(number):
        for count in range(10):
            stack.send(f"m{number}-{count}")

    threads = [threading.Thread(target=session, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stack.wait_mail(*(f"m{number}-{count}" for number in range(20) for count in range(10)))
    assert len(stack.subjects()) == 200
    stack.wait_empty("mess/*/*", "intd/*")


def test_a_changed_control_file_is_read_at_hup(stack):
    stack.control("rcpthosts", "example.org\nnew.example.org")
    stack.control("locals", "example.org\nnew.example.org")
    os.kill(stack.process.pid, 1)

    def accepted():
        try:
            stack.send("to the new domain", to="joe@new.example.org")
        except smtplib.SMTPException:
            return False
        return True

    while not accepted():
        pass
    stack.wait_mail("to the new domain")


def test_an_idle_stack_is_small(stack):
    stack.send("warm")
    stack.wait_mail("warm")
    sizes = {name: pss_kib(pid) for name, pid in [("supervisor", stack.process.pid), *stack.role_pids().items()]}
    total = sum(sizes.values()) / 1024
    print(f"PSS {total:.1f} MiB: " + ", ".join(f"{name} {size / 1024:.1f}" for name, size in sizes.items()))
    assert total < IDLE_MIB


def pss_kib(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_each_role_has_its_own_user_and_no_way_up(stack):
    if not stack.split:
        pytest.skip("needs the qmail users")
    ids = stack.home.ids()
    expected = {"smtpd": "qmaild", "queue": "qmailq", "send": "qmails", "rspawn": "qmailr"}
    pids = stack.role_pids()
    for role, user in expected.items():
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pids[role]}/status").read_text().splitlines())
        assert status["Uid"].split() == [str(ids.uid[user])] * 4, role
        assert "0" not in status["Gid"].split() + status["Groups"].split(), role
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0, role
        if role != "smtpd":
            assert status["NoNewPrivs"] == "1", role
