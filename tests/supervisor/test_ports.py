"""Whose word counts about ports, and that a change is whole or not at all."""

import os
import socket
from contextlib import closing

import pytest

from pluq.config.site import parse_site
from pluq.errors import ConfigError
from pluq.supervisor.ports import Ports, close_all, own_address
from pluq.supervisor.sockets import parse_address
from pluq.testing.ports import free_port


def site(text=""):
    return parse_site("pluq.toml", text.encode())


def follow(ports, wanted):
    with ports.following(wanted) as found:
        return found


def served(ports):
    return sorted((str(own_address(port.sock)), port.profile) for port in ports)


@pytest.fixture
def ports():
    """Make Ports whose sockets are closed at the end."""
    made = []

    def make(listen=(), passed=(), profile=None):
        made.append(Ports([parse_address(text) for text in listen], passed, profile))
        return made[-1]

    yield make
    for one in made:
        close_all(one._bound.values())


def test_the_command_line_wins_and_a_reload_leaves_it_alone(ports):
    address = f"127.0.0.1:{free_port()}"
    mine = ports([address], profile="mx")
    for text in ("", '[profile.mx]\nlisten = ["127.0.0.1:1"]'):
        assert served(follow(mine, site(text))) == [(address, "mx")]


def test_profiles_listen_and_an_unchanged_socket_stays(ports):
    one, two, three = (f"127.0.0.1:{free_port()}" for _ in range(3))
    mine = ports()
    first = follow(mine, site(f'[profile.a]\nlisten = ["{one}"]\n[profile.b]\nlisten = ["{two}"]'))
    assert served(first) == sorted([(one, "a"), (two, "b")])
    second = follow(mine, site(f'[profile.a]\nlisten = ["{one}"]\n[profile.b]\nlisten = ["{three}"]'))
    assert served(second) == sorted([(one, "a"), (three, "b")])
    assert {port.sock for port in first if port.profile == "a"} == {port.sock for port in second if port.profile == "a"}


def test_one_taken_port_binds_none(ports):
    free = f"127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = f"127.0.0.1:{stranger.getsockname()[1]}"
        mine = ports()
        before = follow(mine, site(f'[profile.a]\nlisten = ["{free}"]'))
        text = f'[profile.a]\nplugins = []\n\n[profile.b]\nlisten = ["127.0.0.1:{free_port()}", "{taken}"]'
        with pytest.raises(
            ConfigError, match=rf"pluq.toml:5: profile.b.listen: cannot listen on {taken}: Address already"
        ):
            follow(mine, site(text))
        assert before[0].sock.getsockname()
        assert served(follow(mine, site(f'[profile.c]\nlisten = ["{free}"]'))) == [(free, "c")]


def test_nobody_can_listen_beside_us(ports):
    address = f"127.0.0.1:{free_port()}"
    follow(ports(), site(f'[profile.a]\nlisten = ["{address}"]'))
    with pytest.raises(ConfigError, match="in use"):
        follow(ports(), site(f'[profile.a]\nlisten = ["{address}"]'))


def test_a_wrong_address_is_told_with_its_line(ports):
    with pytest.raises(ConfigError, match=r"pluq.toml:2: profile.a.listen: 'smtp' is not ADDRESS:PORT"):
        follow(ports(), site('[profile.a]\nlisten = ["smtp"]'))


def test_a_passed_socket_serves_the_profile_of_its_name_then_of_its_address(ports):
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as named,
        closing(socket.create_server(("127.0.0.1", 0))) as other,
    ):
        here, there = str(own_address(named)), str(own_address(other))
        own = f"127.0.0.1:{free_port()}"
        text = f'[profile.mx]\nlisten = ["{own}"]\n[profile.sub]\nlisten = ["{there}", "{own}"]\n[profile.c]\nlisten = ["{own}"]'
        mine = ports(passed=[(named, "mx"), (other, "pluq.socket")])
        assert served(follow(mine, site(text))) == sorted([(here, "mx"), (there, "sub"), (own, "c")])


def test_a_passed_socket_that_fits_nobody_is_not_served_by_chance(ports):
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        passed = [(sock, "smtp")]
        assert [port.profile for port in follow(ports(passed=passed), site())] == ["stock"]
        assert [port.profile for port in follow(ports(passed=passed, profile="mx"), site("[profile.mx]\n"))] == ["mx"]
        with pytest.raises(ConfigError, match="'smtp': no profile has this name or lists this address"):
            follow(ports(passed=passed), site("[profile.mx]\n"))


def test_sockets_for_another_process_are_not_ours():
    assert Ports.from_environment([], {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "3"})._passed == []


def test_what_fails_after_the_ports_changes_nothing_either(ports):
    one, two = (f"127.0.0.1:{free_port()}" for _ in range(2))
    mine = ports()
    (before,) = follow(mine, site(f'[profile.a]\nlisten = ["{one}"]'))
    with pytest.raises(RuntimeError), mine.following(site(f'[profile.a]\nlisten = ["{two}"]')):
        raise RuntimeError
    assert before.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    assert served(follow(mine, site(f'[profile.b]\nlisten = ["{one}"]'))) == [(one, "b")]
    assert served(follow(ports(), site(f'[profile.b]\nlisten = ["{two}"]'))) == [(two, "b")]
