"""Forms of addresses that made other servers relay. One table: who may be sent to, and where such a recipient goes when the queue gets it."""

import pytest

from pluq.send.rewrite import LOCAL, REMOTE, Routing
from pluq.smtpd.policy import RcptHosts
from pluq.testing.smtp_session import Talk, default_policy

US = "example.org"
THEM = "them.example"

REFUSED = (
    f"x@{THEM}", f"X@{THEM.upper()}", f'"x"@{THEM}', f'"x@{US}"@{THEM}', f"x@{US}@{THEM}", f"x%{US}@{THEM}", f"{US}!x@{THEM}",
    f"@{US}:x@{THEM}", f"@{US},@{US}:x@{THEM}", f"@{THEM}:x@{THEM}", f"x@{US}.", f"x@{US}..", f"x@.{US}", f"x@{US}.{THEM}",
    f"x@{THEM}.{US}.{THEM}", f"x@a{US}", f"x@{US}a", f"x@ {US}", f"x@{US} ", f"x@{US}\t", f"x@[{US}]", f"x@({US})", f"x@{US};",
    f"x@{US},y@{THEM}", f"x@{US}/../{THEM}", f"x@{US}%00", f"x@{US}%{THEM}", f"x@{US}!{THEM}", f"x@{US}:25", f"x@{US}#", f"x@*.{US}",
    "x@*", "x@", "x@.", "x@[127.0.0.2]", "x@[192.0.2.9]", "x@[::1]", "x@[IPv6:::1]", "x@127.0.0.1", "x@2130706433",
    "x@0x7f000001", "x@[127.1]", "x@[127.0.0.1", "x@127.0.0.1]", "x@[127.0.0.1]x", "x@localhost", "x@LOCALHOST",
    "x@xn--exmple-cua.org", "x@exämple.org", "x@example\u3002org", "x@example.org\u200b", "x@\u212a.org",
)  # fmt: skip
# Taken, and for us alone: the recipient in the queue, and where the scheduler sends it.
TAKEN = {
    f"x@{US}": f"x@{US}",
    f"x@{US.upper()}": f"x@{US.upper()}",
    f"a%{THEM}@{US}": f"a%{THEM}@{US}",
    f"{THEM}!a@{US}": f"{THEM}!a@{US}",
    f"a@{THEM}@{US}": f"a@{THEM}@{US}",
    f'"a@{THEM}"@{US}': f"a@{THEM}@{US}",
    f"@{THEM}:x@{US}": f"x@{US}",
    f"@{THEM},@{THEM}:x@{US}": f"x@{US}",
    f'"a\\@{THEM}"@{US}': f"a@{THEM}@{US}",
    f"a%{THEM}%{THEM}@{US}": f"a%{THEM}%{THEM}@{US}",
    "x@[127.0.0.1]": f"x@{US}",
    "x@[0.0.0.0]": f"x@{US}",
    "postmaster": "postmaster",
    "@": "",
}
assert len(REFUSED) + len(TAKEN) >= 60


def recipients(address):
    policy = default_policy(rcpthosts=RcptHosts(frozenset([US.encode()])), localiphost=US.encode())
    talk = Talk(policy=policy, local_ip="127.0.0.1")
    talk.send(f"MAIL FROM:<a@b>\r\nRCPT TO:<{address}>\r\nDATA\r\n.\r\n".encode())
    return [one.decode() for queued in talk.queue.messages for one in queued.recipients]


@pytest.mark.parametrize("address", REFUSED)
def test_nobody_relays_through_us(address):
    assert recipients(address) == []


@pytest.mark.parametrize("address", TAKEN)
def test_what_is_taken_stays_with_us(address):
    (recipient,) = recipients(address)
    assert recipient == TAKEN[address]
    routing = Routing([US.encode()], envnoathost=US.encode())
    assert routing.route(recipient.encode())[0] == LOCAL


def test_percenthack_is_the_sites_own_wish():
    """control/percenthack opens what rcpthosts had closed, as qmail-send(8) warns: only for the domains that it names."""
    for hack, channel in (((), LOCAL), ((US.encode(),), REMOTE), ((b"other.example",), LOCAL)):
        routing = Routing([US.encode()], percenthack=hack)
        assert routing.route(f"a%{THEM}@{US}".encode())[0] == channel
