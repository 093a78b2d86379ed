"""Senders with a meaning: bounces, VERP, list owners."""

import pytest

from pluq.mail.envelope import bounce_target, is_bounce, list_sender, verp_sender


@pytest.mark.parametrize(
    ("sender", "recipient", "expected"),
    [
        (b"owner-@host-@[]", b"box@dom", b"owner-box=dom@host"),
        (b"owner-@host-@[]", b"a@b@c", b"owner-a@b=c@host"),
        (b"a@b-@host-@[]", b"box@dom", b"a@b-box=dom@host"),
        (b"owner-@host-@[]", b"box@", b"owner-box=@host"),
        (b"owner-@host-@[]", b"box", b"owner-@host-@[]"),  # no host: nothing to put behind the =
        (b"owner-@[]", b"box@dom", b"owner-@[]"),  # no host of ours
        (b"-@[]", b"box@dom", b"-@[]"),
        (b"owner@host", b"box@dom", b"owner@host"),
        (b"", b"box@dom", b""),
        (b"#@[]", b"box@dom", b"#@[]"),
    ],
)
def test_verp_puts_the_recipient_into_the_sender(sender, recipient, expected):
    assert verp_sender(sender, recipient) == expected


@pytest.mark.parametrize(
    ("sender", "expected"),
    [(b"owner-@host-@[]", b"owner-@host"), (b"joe@host", b"joe@host"), (b"-@[]", b""), (b"", b""), (b"#@[]", b"#@[]")],
)
def test_a_bounce_goes_to_the_pattern_without_its_mark(sender, expected):
    assert bounce_target(sender) == expected


def test_only_the_two_special_senders_are_bounces():
    assert is_bounce(b"")
    assert is_bounce(b"#@[]")
    assert not is_bounce(b"MAILER-DAEMON@host")


@pytest.mark.parametrize(
    ("sender", "owner", "default", "expected"),
    [
        (b"joe@x", False, False, b"joe@x"),
        (b"joe@x", True, False, b"list-owner@host"),
        (b"joe@x", True, True, b"list-owner-@host-@[]"),
        (b"joe@x", False, True, b"joe@x"),
        (b"", True, True, b""),
        (b"#@[]", True, False, b"#@[]"),
    ],
)
def test_a_list_speaks_in_the_name_of_its_owner(sender, owner, default, expected):
    assert list_sender(sender, b"list", b"host", owner, default) == expected
