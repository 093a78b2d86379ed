"""pluq demo, as far as it needs no stack; tests/integration has the rest."""

import os
import socket
import sys

import pytest

from pluq.commands import demo
from pluq.config import Home
from pluq.supervisor.sockets import lock_run


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["pluq demo", *words])
    return demo.main()


def test_a_folder_of_somebody_else_is_left_as_it_is(monkeypatch, capsys, tmp_path):
    (tmp_path / "control").mkdir()
    (tmp_path / "control/pluq.toml").write_text("[profile.mx]\n")
    assert run(monkeypatch, "--once", "--home", str(tmp_path)) == 1
    assert "is not empty, and no demo made it: name another folder with --home" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["control"]
    assert (tmp_path / "control/pluq.toml").read_text() == "[profile.mx]\n"


def test_a_demo_takes_a_new_folder_and_its_own_again(tmp_path):
    home = Home(str(tmp_path / "home"))
    demo.claim(home)
    password = demo.Demo(home, 1, 2, 3).password
    demo.claim(home)
    assert password
    assert demo.Demo(home, 1, 2, 3).password == password


def test_a_demo_that_runs_keeps_its_ports_when_another_is_started(monkeypatch, capsys, tmp_path):
    home = Home(str(tmp_path / "home"))
    demo.claim(home)
    os.makedirs(home.run)
    lock = lock_run(f"{home.run}/lock", 0.0)
    try:
        assert run(monkeypatch, "--home", home.path) == 1
    finally:
        os.close(lock)
    assert "another demo runs there" in capsys.readouterr().err
    assert not os.path.exists(home.control("pluq.toml"))


@pytest.mark.parametrize("port", ["0", "65536", "-1", "smtp", ""])
def test_what_is_no_port_is_refused_before_anything_is_made(monkeypatch, capsys, tmp_path, port):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--home", str(tmp_path / "home"), f"--port={port}")
    assert "is no port: a number from 1 to 65535" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_a_demo_says_which_port_is_taken():
    ports = demo.choose_ports(None)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = sock.getsockname()[1]
        with pytest.raises(demo.DemoError, match=f"127.0.0.1:{taken}: Address already in use"):
            demo.choose_ports(taken)
    assert len(set(ports)) == 3


def test_a_demo_shows_the_end_of_the_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert demo.last_lines(str(log)).splitlines()[1] == "  | line 80"
    assert "no log" in demo.last_lines(str(tmp_path / "none"))
