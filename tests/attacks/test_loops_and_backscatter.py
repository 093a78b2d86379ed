"""Mail that goes in circles ends, after few deliveries; bounces go to real senders, once, and never on account of bounces."""

import os
import smtplib
from pathlib import Path

import pytest

from pluq.testing.stack import wait_until

pytestmark = pytest.mark.integration

OTHER = "b.example"
FORGED = "forged.example"
PROFILE = '[profile.mx]\nplugins = ["rcptcheck"]\n'


def dot_qmail(stack, extension, text):
    path = stack.folder / "joe" / f".qmail-{extension}"
    path.write_text(text)


def deliveries(stack):
    return stack.log.read_text(errors="replace").count("starting delivery ")


def settled(*stacks):
    return lambda: not any(stack.queued() for stack in stacks)


def test_two_hosts_that_forward_to_one_another_stop(new_stack):
    with new_stack() as ours, new_stack() as theirs:
        ours.control("smtproutes", f"{OTHER}:127.0.0.1:{theirs.port}")
        theirs.control("smtproutes", f"example.org:127.0.0.1:{ours.port}")
        theirs.control("locals", OTHER)
        theirs.control("rcpthosts", OTHER)
        dot_qmail(ours, "ring", f"&joe-ring@{OTHER}\n")
        dot_qmail(theirs, "ring", "&joe-ring@example.org\n")
        theirs.start()
        ours.start()
        ours.send("circle", sender="joe@example.org", to="joe-ring@example.org")
        ours.wait_mail("failure notice", patience=60)
        wait_until(settled(ours, theirs), ours.told)
        assert "looping" in (ours.maildir() / "new" / os.listdir(ours.maildir() / "new")[0]).read_text()
        assert ours.subjects() == ["failure notice"], "one bounce, to the sender"
        assert deliveries(ours) + deliveries(theirs) < 10


def test_two_addresses_of_one_user_that_forward_to_one_another_stop(stack):
    dot_qmail(stack, "here", "&joe-there@example.org\n")
    dot_qmail(stack, "there", "&joe-here@example.org\n")
    before = deliveries(stack)
    stack.send("round", sender="joe@example.org", to="joe-here@example.org")
    stack.wait_mail("failure notice")
    wait_until(settled(stack), stack.told)
    assert deliveries(stack) - before < 6


def test_a_hundred_hops_are_enough(stack):
    with stack.client() as client, pytest.raises(smtplib.SMTPDataError, match="too many hops"):
        client.sendmail("a@far.example", ["joe@example.org"], "Received: by x\n" * 101 + "Subject: far\n\nx\n")


def test_a_bounce_that_bounces_goes_to_the_postmaster_once_and_then_nowhere(new_stack):
    with new_stack() as stack:
        stack.control("doublebouncehost", "example.org")
        postmaster = Path(stack.home.alias) / ".qmail-postmaster"
        postmaster.write_text("&joe-post@example.org\n")
        dot_qmail(stack, "post", "./Maildir/\n")
        stack.start()
        stack.send("lost", sender="nobody-1@example.org", to="nobody-2@example.org")
        stack.wait_mail("failure notice")
        wait_until(settled(stack), stack.told)
        before = deliveries(stack)
        assert before == 4, "the message, its bounce, the double bounce, and its forward"
        postmaster.unlink()
        stack.send("lost", sender="nobody-1@example.org", to="nobody-2@example.org")
        wait_until(lambda: deliveries(stack) >= before + 3, stack.told)
        wait_until(settled(stack), stack.told)
        assert deliveries(stack) == before + 3, "a triple bounce is thrown away"
        assert stack.subjects() == ["failure notice"]


def test_a_site_that_checks_recipients_sends_no_bounce_for_a_hundred_forged_senders(new_stack, far):
    with new_stack() as stack:
        stack.control("smtproutes", f":127.0.0.1:{far.port}")
        stack.control("pluq.toml", PROFILE)
        stack.start({"PLUQ_PROFILE": "mx"})
        before = len(far.sessions)
        for number in range(100):
            with stack.client() as client, pytest.raises(smtplib.SMTPRecipientsRefused, match="no mailbox"):
                client.sendmail(f"victim{number}@{FORGED}", [f"nobody{number}@example.org"], "Subject: x\n\nx\n")
        stack.send("good")
        stack.wait_mail("good")
        wait_until(settled(stack), stack.told)
        assert len(far.sessions) == before
