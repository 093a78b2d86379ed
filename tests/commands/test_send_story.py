"""What happens to a message, from the lines of a log, in plain words."""

import pytest

from pluq.commands.send_story import Ending, Story, success
from pluq.log.read import parse


def told(story, *lines):
    return [sentence for line in lines for sentence in story.feed(parse(line))]


BEGIN = (b"new msg 42", b"info msg 42: bytes 400 from <p@example.org> qp 9 uid 0")


def test_a_delivery_is_followed_to_its_end():
    story = Story(9)
    sentences = told(
        story,
        b"info msg 41: bytes 1 from <> qp 8 uid 0",
        *BEGIN,
        b"starting delivery 3: msg 42 to local joe@example.org",
        b"delivery 2: failure: of_another_message/",
        b"delivery 3: success: did_1+0+0/",
        b"end msg 42",
    )
    assert sentences == [
        "It is in the queue as message 42, 400 bytes.",
        "A local delivery to joe@example.org begins.",
        "Delivered to joe@example.org: written to 1 mailbox.",
        "Message 42 has left the queue.",
    ]
    assert story.is_over
    assert story.ending is Ending.DELIVERED
    assert story.numbers == []


def test_a_deferral_is_an_end_for_now_and_has_a_hint():
    story = Story(9)
    sentences = told(
        story,
        *BEGIN,
        b"starting delivery 3: msg 42 to remote bob@far.example",
        b"delivery 3: deferral: Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/",
    )
    assert sentences[-1] == "No host of the domain answered on port 25. Is outgoing port 25 blocked here?"
    assert story.is_over
    assert story.ending is Ending.DEFERRED
    assert story.numbers == [42]


def test_a_failure_is_over_when_its_bounce_is_sent():
    story = Story(9)
    told(story, *BEGIN, b"starting delivery 3: msg 42 to local x@example.org", b"delivery 3: failure: no_mailbox/")
    assert not story.is_over
    assert told(story, b"bounce msg 42 qp 77", b"end msg 42")[0] == "A bounce goes to the sender."
    assert story.is_over
    assert story.ending is Ending.FAILED


def test_what_is_forwarded_is_followed_although_it_was_logged_before_the_report():
    story = Story(9)
    told(
        story,
        *BEGIN,
        b"starting delivery 3: msg 42 to local list@example.org",
        b"new msg 43",
        b"info msg 43: bytes 500 from <p@example.org> qp 10 uid 7",
        b"starting delivery 4: msg 43 to local joe@example.org",
    )
    sentences = told(story, b"delivery 3: success: did_0+1+0/qp_10/", b"end msg 42")
    assert "It is in the queue as message 43, 500 bytes." in sentences
    assert not story.is_over
    told(story, b"delivery 4: failure: no/", b"end msg 43")
    assert story.is_over
    assert story.ending is Ending.FAILED


def test_the_number_of_a_message_that_left_may_be_anothers():
    story = Story(9)
    told(
        story, *BEGIN, b"starting delivery 3: msg 42 to local joe@x", b"delivery 3: success: did_1+0+0/", b"end msg 42"
    )
    later = (b"new msg 42", b"info msg 42: bytes 1 from <> qp 11 uid 0", b"starting delivery 5: msg 42 to local ann@x")
    assert told(story, *later, b"delivery 5: failure: no/") == []
    assert story.ending is Ending.DELIVERED


def test_the_number_that_a_remote_host_gave_is_not_ours():
    story = Story(9)
    told(story, *BEGIN, b"starting delivery 3: msg 42 to remote a@far.example")
    told(story, b"delivery 3: success: 192.0.2.1_accepted_message./Remote_host_said:_250_ok_17_qp_10/", b"end msg 42")
    assert story.is_over


def test_a_path_in_a_report_stays_a_path():
    story = Story(9)
    told(story, *BEGIN, b"starting delivery 3: msg 42 to local joe@x")
    sentences = told(story, b"delivery 3: deferral: Unable_to_switch_to_/home/joe:_file_does_not_exist._(#4.3.0)/")
    assert sentences[0].endswith("tried again: Unable to switch to /home/joe: file does not exist. (#4.3.0)")


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("did 1+0+0", "written to 1 mailbox"),
        ("did 2+3+1 qp 7", "written to 2 mailboxes, forwarded 3 times, given to 1 program"),
        ("did 0+0+0", "its .qmail file throws it away"),
        ("192.0.2.1 accepted message.", "192.0.2.1 accepted message"),
        ("", "accepted"),
    ],
)
def test_reports_of_success(report, words):
    assert success(report) == words
