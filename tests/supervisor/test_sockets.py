"""Sockets are bound once, belong to one user, and a second stack cannot take them."""

import os
import socket
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ConfigError
from pluq.supervisor.sockets import Address, bind_tcp, bind_unix, inherited, lock_run, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:25", Address("127.0.0.1", 25)),
        ("[::1]:587", Address("::1", 587)),
        (":25", Address("0.0.0.0", 25)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
    ],
)
def test_addresses_as_administrators_write_them(text, address):
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["25", "localhost:25", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:x", "[::1]", "1.2.3:25"]
)
def test_a_wrong_address_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match="not"):
        parse_address(text)


@given(st.text(max_size=40))
def test_parse_address_gives_an_address_or_a_sentence(text):
    try:
        assert 0 <= parse_address(text).port <= 65535
    except ValueError:
        pass


def test_a_taken_port_is_named():
    with bind_tcp(Address("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"listen 127.0.0.1:{port}: Address already in use"):
            bind_tcp(Address("127.0.0.1", port))


def test_a_unix_socket_replaces_the_one_of_a_former_run(tmp_path):
    path = str(tmp_path / "qmqp")
    bind_unix(path, socket.SOCK_STREAM, 0o666, os.getuid()).close()
    with bind_unix(path, socket.SOCK_STREAM, 0o600, os.getuid()):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_home_with_a_very_long_path_has_its_sockets(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with bind_unix(f"{folder}/lease", socket.SOCK_SEQPACKET, 0o600, os.getuid()):
        assert stat.S_ISSOCK(os.stat(folder / "lease").st_mode)


def test_a_file_in_the_place_of_a_socket_is_not_removed(tmp_path):
    path = tmp_path / "todo"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="in use"):
        bind_unix(str(path), socket.SOCK_SEQPACKET, 0o600, os.getuid())
    assert path.read_text() == "mine"


def test_one_home_has_one_stack(tmp_path):
    path = str(tmp_path / "lock")
    fd = lock_run(path, 0)
    with pytest.raises(ConfigError, match="another stack"):
        lock_run(path, 0)
    os.close(fd)
    os.close(lock_run(path, 0))


def test_sockets_meant_for_another_process_are_left_alone():
    assert inherited({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
    assert inherited({}) == []
