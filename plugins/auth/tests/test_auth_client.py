"""auth, towards other hosts: which line gives the login, how we log in, and what is reported where that fails."""

from __future__ import annotations

import base64
import hmac
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from pluq import Delivery
from pluq.config import Home
from pluq.errors import ConfigError
from pluq.remote.connection import PeerLost
from pluq.remote.deliver import heed
from pluq.remote.route import Route
from pluq.testing.plugins import make_plugin
from pluq.wire.smtp import Reply
from pluq_auth import Auth
from pluq_auth.client import log_in, parse_xtext, xtext
from pluq_auth.routes import AuthSenders, find_route, parse_route

# -- which line


@pytest.mark.parametrize(
    ("line", "route"),
    [
        (b"relay.example|user|secret", Route(b"relay.example", login=(b"user", b"secret"))),
        (b"relay.example:587|us:er|se|cr:et", Route(b"relay.example", 587, login=(b"us:er", b"se|cr:et"))),
        (b"[2001:db8::1]:587|u|p", Route(b"[2001:db8::1]", 587, login=(b"u", b"p"))),
        (b"relay.example:587", Route(b"relay.example", 587)),
        (b"relay.example||", Route(b"relay.example")),
        (b"relay.example dXNlcg== c2VjcmV0", Route(b"relay.example", login=(b"user", b"secret"))),
        (b"relay.example:587 dXNlcg== c2VjcmV0", Route(b"relay.example", 587, login=(b"user", b"secret"))),
    ],
)
def test_the_forms_of_a_login_in_a_route(line: bytes, route: Route) -> None:
    assert parse_route(line) == route
    assert b"secret" not in repr(parse_route(line)).encode()


@pytest.mark.parametrize(
    "line", [b"relay.example|user", b"relay.example dXNlcg==", b"relay user secret!", b"relay a b c"]
)
def test_half_a_login_is_an_error_and_never_no_login(line: bytes) -> None:
    with pytest.raises(ValueError, match="USER"):
        parse_route(line)


@pytest.mark.parametrize(
    ("sender", "relay"),
    [
        (b"Ann@Sales.Example.org", b"1"),
        (b"joe@sales.example.org", b"2"),
        (b"joe@x.sales.example.org", b"3"),
        (b"joe@example.org", b"4"),
        (b"", b"4"),
        (b"off@example.org", None),
    ],
)
def test_the_longest_match_of_a_sender_counts(sender: bytes, relay: bytes | None) -> None:
    lines = [
        b"ann@sales.example.org:1",
        b"@sales.example.org:2",
        b".example.org:3",
        b":4",
        b"off@example.org:",
        b"nonsense",
    ]
    assert AuthSenders(lines).find(sender) == relay


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    return Home(str(tmp_path))


def write(home: Home, **files: str) -> None:
    for name, text in files.items():
        Path(home.control(name)).write_text(text)


def test_the_sender_s_line_comes_before_the_domain_s(home: Home) -> None:
    write(
        home,
        authsenders="ann@a.example:relay1|u|p\njoe@a.example:\n",
        smtproutes="b.example:relay2|v|q\nc.example:relay3\n",
    )

    def found(sender: bytes, host: bytes) -> Route | None:
        return find_route(home.controls, sender, host)

    assert found(b"ann@a.example", b"b.example") == Route(b"relay1", login=(b"u", b"p"))
    assert found(b"joe@a.example", b"B.example") == Route(b"relay2", login=(b"v", b"q"))
    assert found(b"joe@a.example", b"c.example") is None  # the core's to route
    assert found(b"joe@a.example", b"d.example") is None


def test_a_line_that_cannot_be_read_names_its_file(home: Home) -> None:
    write(home, smtproutes=":relay|user\n")
    with pytest.raises(ConfigError, match="smtproutes"):
        find_route(home.controls, b"a@b", b"c")


def test_check_names_the_lines_that_nobody_can_use(home: Home) -> None:
    write(home, smtproutes=":relay|user\nb.example:relay|u|p\nc.example:\n")
    (fault,) = make_plugin(Auth, home=home, role="remote").check()
    assert fault == f"{home.control('smtproutes')}: : a login is |USER|PASSWORD"


def test_port_465_means_tls_from_the_first_byte(home: Home) -> None:
    write(home, smtproutes=":relay:465|user|secret\n")
    delivery = Delivery("remote", 1, b"a@b", [b"c@d"], b"d")
    import ssl

    for verified in (False, True):
        route = make_plugin(Auth, home=home, role="remote", verify_relay=verified).remote_route(delivery)
        assert route.tls.minimum_version == ssl.TLSVersion.TLSv1_2
        assert route.tls.check_hostname is verified


# -- logging in


class Peer:
    """A connection whose peer says what `answer` returns for each line, or for each line in turn."""

    def __init__(self, offered: bytes, *replies: Any) -> None:
        self.capabilities = {b"AUTH": offered} if offered else {}
        self.partner = b"192.0.2.1"
        self.route = Route(b"relay", login=(b"user", b"secret"))
        self.tls = None
        self.said: list[bytes] = []
        self._replies = list(replies)

    async def command(self, line: bytes) -> Reply:
        self.said.append(line)
        reply = self._replies.pop(0)
        if callable(reply):
            reply = reply(line)
        if reply is None:
            raise PeerLost
        return Reply(int(reply[:3]), reply + b"\n")


async def report(peer: Peer) -> bytes | None:
    return heed(await log_in(peer, b"user", b"secret"))  # type: ignore[arg-type]


def b64(text: bytes) -> bytes:
    return base64.b64encode(text)


async def test_the_first_mechanism_of_the_server_s_list_that_we_know_is_used() -> None:
    peer = Peer(b"GSSAPI plain LOGIN CRAM-MD5", b"334 ", b"235 ok")
    assert await report(peer) is None
    assert peer.said == [b"AUTH PLAIN", b64(b"user\0user\0secret")]
    peer = Peer(b"LOGIN PLAIN", b"334 x", b"334 y", b"235 ok")
    assert await report(peer) is None
    assert peer.said == [b"AUTH LOGIN", b64(b"user"), b64(b"secret")]
    peer = Peer(b"CRAM-MD5 PLAIN", b"334 " + b64(b"<1@x>"), b"235 ok")
    assert await report(peer) is None
    assert peer.said[1] == b64(b"user " + hmac.new(b"secret", b"<1@x>", "md5").hexdigest().encode())


@pytest.mark.parametrize(
    ("offered", "replies", "text"),
    [
        (b"PLAIN", [b"504 no"], b"but authentication was rejected (AUTH PLAIN)..\nRemote host said: 504 no\n"),
        (b"PLAIN", [b"334 ", b"535 no"], b"but authentication was rejected (plain)..\nRemote host said: 535 no\n"),
        (b"LOGIN", [b"334 x", b"535 no"], b"but authentication was rejected (username)..\nRemote host said: 535 no\n"),
        (
            b"LOGIN",
            [b"334 ", b"334 ", b"535 no"],
            b"but authentication was rejected (password)..\nRemote host said: 535 no\n",
        ),
        (b"PLAIN", [b"432 old"], b"but authentication was rejected (AUTH PLAIN)..\nRemote host said: 432 old\n"),
        (b"LOGIN", [b"334 ", b"334 ", b"432 old"], b"but password expired..\nRemote host said: 432 old\n"),
        (b"CRAM-MD5", [b"334 ???"], b"but unable to base64decode challenge..\nRemote host said: 334 ???\n"),
        (
            b"CRAM-MD5",
            [b"334 eA==", b"535 no"],
            b"but authentication was rejected (username+digest)..\nRemote host said: 535 no\n",
        ),
        (b"GSSAPI", [], b"but it offers no authentication that I know. (#4.7.0)\n"),
        (b"", [], b"but it offers no authentication that I know. (#4.7.0)\n"),
    ],
)
async def test_every_failure_is_temporary_and_says_at_which_step(
    offered: bytes, replies: list[bytes], text: bytes
) -> None:
    assert await report(Peer(offered, *replies)) == b"ZConnected to 192.0.2.1 " + text


def server(password: str, iterations: int = 4096) -> list[Any]:
    """Return the answers of a SCRAM server that knows this password."""
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    keys = mechanism.make_auth_info(password, 4096, b"a salt of 16 oct")
    scram = mechanism.make_server(lambda name: keys)

    def first(line: bytes) -> bytes:
        scram.set_client_first(base64.b64decode(line).decode())
        return b"334 " + b64(scram.get_server_first().replace("i=4096", f"i={iterations}").encode())

    def final(line: bytes) -> bytes:
        try:
            scram.set_client_final(base64.b64decode(line).decode())
        except scramp.ScramException:
            return b"535 no"
        return b"334 " + b64(scram.get_server_final().encode())

    return [b"334 ", first, final, b"235 ok"]


async def test_scram_proves_both_sides() -> None:
    assert await report(Peer(b"SCRAM-SHA-256 PLAIN", *server("secret"))) is None
    refused = await report(Peer(b"SCRAM-SHA-256", *server("other")))
    assert refused == (
        b"ZConnected to 192.0.2.1 but authentication was rejected (client-final)..\nRemote host said: 535 no\n"
    )


async def test_a_relay_that_does_not_know_the_password_gets_no_mail() -> None:
    answers = server("secret")
    answers[2] = b"334 " + b64(b"v=" + b64(bytes(32)))
    reply = await report(Peer(b"SCRAM-SHA-256", *answers))
    assert reply == b"ZConnected to 192.0.2.1 but it did not prove who it is. (#4.7.0)\n"


async def test_a_relay_cannot_make_us_compute_for_ever() -> None:
    reply = await report(Peer(b"SCRAM-SHA-256", *server("secret", 10_000_000)))
    assert reply == b"ZConnected to 192.0.2.1 but its login would take too long. (#4.7.0)\n"


async def test_a_relay_that_hangs_up_is_the_core_s_to_report(home: Home) -> None:
    peer = Peer(b"PLAIN", b"334 ", None)
    plugin = make_plugin(Auth, home=home, role="remote")
    assert await plugin.remote_session(Delivery("remote", 1, b"a@b", [b"c@d"]), peer) is None


async def test_a_site_may_keep_passwords_from_going_in_clear(home: Home) -> None:
    plugin = make_plugin(Auth, home=home, role="remote", password_needs_tls=True)
    peer = Peer(b"PLAIN")
    verdict = await plugin.remote_session(Delivery("remote", 1, b"a@b", [b"c@d"]), peer)
    assert heed(verdict) == b"ZConnected to 192.0.2.1 but I log in only with TLS. (#4.7.0)\n"
    assert peer.said == []


def test_the_login_is_told_at_mail_where_the_relay_knows_auth() -> None:
    plugin = make_plugin(Auth, role="remote")
    delivery = Delivery("remote", 1, b"a@b", [b"c@d"])

    def told(route: Route, *capabilities: bytes) -> Any:
        return plugin.remote_params(delivery, SimpleNamespace(route=route, capabilities=dict.fromkeys(capabilities)))

    with_login = Route(b"relay", login=(b"us+er=x@example.org", b"secret"))
    assert told(with_login, b"AUTH") == [b"AUTH=us+2Ber+3Dx@example.org"]
    assert told(with_login) == []
    assert told(Route(b"relay"), b"AUTH") == []


@given(st.binary())
def test_xtext_of_anything_is_one_printable_word_and_comes_back(value: bytes) -> None:
    assert parse_xtext(xtext(value)) == value
    assert all(33 <= octet <= 126 for octet in xtext(value))
