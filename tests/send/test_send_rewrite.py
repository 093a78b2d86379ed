"""Local or remote, and under which address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.send.rewrite import LOCAL, REMOTE, Routing

ROUTING = Routing(
    local_domains=[b"here.example", b"Other.Example", b"odd@here"],
    virtualdomains=[
        b"virt.example:joe-virt",
        b"user@virt.example:special",
        b".wild.example:uucp",
        b"not.wild.example:",
        b"here.example:never",
        b"twice.example:first",
        b"twice.example:second",
        b"no colon",
        b"colons.example:a:b",
    ],
    percenthack=[b"hack.example"],
    envnoathost=b"here.example",
)


@pytest.mark.parametrize(
    ("recipient", "channel", "address"),
    [
        (b"joe@here.example", LOCAL, b"joe@here.example"),
        (b"Joe@HERE.example", LOCAL, b"Joe@HERE.example"),
        (b"joe@other.example", LOCAL, b"joe@other.example"),
        (b"joe", LOCAL, b"joe@here.example"),
        (b"", LOCAL, b"@here.example"),
        (b"joe@sub.here.example", REMOTE, b"joe@sub.here.example"),
        (b"a@b@here.example", LOCAL, b"a@b@here.example"),
        (b"u@virt.example", LOCAL, b"joe-virt-u@virt.example"),
        (b"U@VIRT.example", LOCAL, b"joe-virt-U@VIRT.example"),
        (b"user@virt.example", LOCAL, b"special-user@virt.example"),
        (b"u@x.wild.example", LOCAL, b"uucp-u@x.wild.example"),
        (b"u@y.x.wild.example", LOCAL, b"uucp-u@y.x.wild.example"),
        (b"u@wild.example", REMOTE, b"u@wild.example"),
        (b"u@not.wild.example", REMOTE, b"u@not.wild.example"),
        (b"u@.wild.example", LOCAL, b"uucp-u@.wild.example"),
        (b"u@twice.example", LOCAL, b"second-u@twice.example"),
        (b"u@colons.example", LOCAL, b"a:b-u@colons.example"),
        (b"u@no colon", REMOTE, b"u@no colon"),
        (b"u%here.example@hack.example", LOCAL, b"u@here.example"),
        (b"u%x%hack.example@hack.example", REMOTE, b"u@x"),
        (b"u%x%hack.example@HACK.example", REMOTE, b"u@x"),
        (b"u@hack.example", REMOTE, b"u@hack.example"),
        (b"a%b@c@hack.example", REMOTE, b"a@b@c"),
    ],
)
def test_recipients_go_where_qmail_sends_them(recipient, channel, address):
    assert ROUTING.route(recipient) == (channel, address)


def test_the_empty_key_catches_all_that_has_no_entry():
    routing = Routing([b"here.example"], [b":all", b"no.example:", b".sub.example:sub"])

    assert routing.route(b"u@any.example") == (LOCAL, b"all-u@any.example")
    assert routing.route(b"u@a.sub.example") == (LOCAL, b"sub-u@a.sub.example")
    assert routing.route(b"u@no.example") == (REMOTE, b"u@no.example")
    assert routing.route(b"u@here.example") == (LOCAL, b"u@here.example")
    assert routing.route(b"u@") == (LOCAL, b"all-u@")


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        (b"joe-virt-u@virt.example", b"u@virt.example"),
        (b"joe-virt@virt.example", b"joe-virt@virt.example"),
        (b"other-u@virt.example", b"other-u@virt.example"),
        (b"uucp-u@x.wild.example", b"u@x.wild.example"),
        (b"not-u@not.wild.example", b"not-u@not.wild.example"),
        (b"joe@here.example", b"joe@here.example"),
        (b"joe", b"joe"),
    ],
)
def test_bounces_show_the_address_that_was_sent_to(address, sent):
    assert ROUTING.as_sent(address) == sent


def test_hup_changes_domains_only():
    routing = ROUTING.with_domains([b"new.example"], [b"v.example:v"])

    assert routing.route(b"u@new.example")[0] == LOCAL
    assert routing.route(b"u@here.example")[0] == REMOTE
    assert routing.route(b"u%v.example@hack.example") == (LOCAL, b"v-u@v.example")
    assert routing.route(b"joe") == (REMOTE, b"joe@here.example")


@given(st.binary(max_size=60))
def test_any_bytes_have_a_way(recipient):
    channel, address = ROUTING.route(recipient)

    assert channel in (LOCAL, REMOTE)
    assert b"@" in address
