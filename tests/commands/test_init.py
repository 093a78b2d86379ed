"""`pluq init` makes homes that pass `pluq check`, leaves what is there alone, and says what it did."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pluq.commands import init as command
from pluq.config import Home, current_ids, qmail_ids
from pluq.config.site import read_site
from pluq.supervisor import accounts
from pluq.supervisor.starters import STARTERS, toml

ENTRY = "import sys; from pluq.commands.pluq import main; sys.exit(main())"
NAMES = ("--me", "mail.example.org", "--domain", "example.org")
CHOICES = [("mx",), ("submission",), ("mx", "submission"), ("null",), ("null", "submission"), ()]


def pluq(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    argv = [sys.executable, "-c", ENTRY, *words]
    return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120, check=False)


def init(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return pluq("init", "--home", str(folder / "home"), "--single-user", *NAMES, *words)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted((folder / "home").rglob("*")) if path.is_file()}


@pytest.mark.parametrize("profiles", CHOICES, ids=lambda names: "-".join(names) or "stock")
def test_a_new_home_passes_the_check_and_making_it_again_changes_nothing(tmp_path, profiles):
    if {"mx", "submission"} & set(profiles):
        pytest.importorskip("spf")
        pytest.importorskip("cryptography")
    words = [word for name in profiles for word in ("--profile", name)]
    made = init(tmp_path, *words)
    assert made.returncode == 0, made.stderr
    assert f"made {tmp_path}/home/control/me\n" in made.stdout
    assert pluq("check", "--home", str(tmp_path / "home")).returncode == 0
    site = read_site(Home(str(tmp_path / "home")))
    assert list(site.profiles) == [table for name in profiles for table in STARTERS[name].tables]
    before = contents(tmp_path)
    again = init(tmp_path, *words)
    assert (again.returncode, "made " in again.stdout) == (0, False)
    assert contents(tmp_path) == before


def test_it_says_what_to_do_next(tmp_path):
    said = init(tmp_path, "--profile", "mx", "--profile", "submission").stdout
    for text in (
        "example.org. IN MX 10 mail.example.org.",
        "v=spf1 mx -all",
        "default._domainkey.example.org.",
        "v=DMARC1",
    ):
        assert text in said
    assert f"pluq auth passwd --home {tmp_path}/home USER" in said
    assert f"pluq serve --home {tmp_path}/home" in said


def test_what_exists_is_kept(tmp_path):
    control = tmp_path / "home" / "control"
    control.mkdir(parents=True)
    (control / "me").write_text("mine.example\n")
    (control / "servercert.pem").write_text("mine")
    assert init(tmp_path, "--profile", "mx").returncode == 1  # that certificate is none, and the check says so
    assert (control / "me").read_text() == "mine.example\n"
    assert (control / "servercert.pem").read_text() == "mine"


def test_in_the_home_of_a_site_control_files_that_are_missing_stay_missing(tmp_path):
    control = tmp_path / "home" / "control"
    control.mkdir(parents=True)
    (control / "me").write_text("mine.example\n")
    (control / "rcpthosts").write_text("mine.example\n")
    made = pluq("init", "--home", str(tmp_path / "home"), "--single-user")
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""
    assert sorted(path.name for path in control.iterdir()) == ["me", "rcpthosts", "singleuser"]
    assert not list((tmp_path / "home" / "alias").iterdir())
    assert (tmp_path / "home" / "queue" / "lock" / "trigger").is_fifo()


def test_a_profile_is_not_added_to_a_file_that_is_there_but_shown(tmp_path):
    assert init(tmp_path, "--profile", "mx").returncode == 0
    before = contents(tmp_path)
    refused = init(tmp_path, "--profile", "submission")
    assert refused.returncode == 100
    assert "no profile submission, submissions" in refused.stderr
    assert "[profile.submissions]" in refused.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "words",
    [
        ("--profile", "mx", "--profile", "null"),
        ("--profile", "mini", "--server", "192.0.2.1", "--profile", "mx"),
        ("--profile", "mini"),
        ("--server", "192.0.2.1"),
        ("--users",),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_made(tmp_path, words):
    assert init(tmp_path, *words).returncode == 100
    assert not (tmp_path / "home").exists()


def test_a_home_of_one_user_stays_one(tmp_path):
    assert init(tmp_path).returncode == 0
    home = tmp_path / "home"
    again = pluq("init", "--home", str(home), *NAMES, "--profile", "null")
    assert again.returncode == 0, again.stderr
    assert {path.lstat().st_uid for path in home.rglob("*")} == {os.getuid()}


def test_mail_for_the_administrator_has_a_place(tmp_path):
    assert init(tmp_path).returncode == 0
    assert (tmp_path / "home/alias/Maildir/new").is_dir()
    with_admin = tmp_path / "other"
    assert init(with_admin, "--admin", "admin@example.com").returncode == 0
    assert (with_admin / "home/alias/.qmail-root").read_text() == "&admin@example.com\n"


def test_a_smarthost_is_the_route_for_all(tmp_path):
    assert init(tmp_path, "--profile", "null", "--smarthost", "relay.example.net:587").returncode == 0
    assert (tmp_path / "home/control/smtproutes").read_text() == ":relay.example.net:587\n"


def test_a_host_without_ipv6_gets_no_ipv6():
    text = toml(("mx", "submission", "null"), with_ipv6=False)
    assert "[::" not in text
    assert "ipv6" not in text


# -- the host without a queue


def test_a_null_client_has_no_queue_passes_the_check_and_is_not_served(tmp_path):
    made = init(tmp_path, "--profile", "mini", "--server", "192.0.2.1")
    assert made.returncode == 0, made.stderr
    home = tmp_path / "home"
    assert not (home / "queue").exists()
    assert os.readlink(home / "bin/qmail-queue").endswith("/qmail-qmqpc")
    assert pluq("check", "--home", str(home)).returncode == 0
    served = pluq("serve", "--home", str(home))
    assert served.returncode == 111
    assert "nothing to serve" in served.stderr
    (home / "control/qmqpservers").write_text("")
    assert "qmqpservers" in pluq("check", "--home", str(home)).stdout


# -- the users


def tools(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/log\n')
        path.chmod(0o755)


def test_users_are_made_by_the_tools_of_the_system(tmp_path, monkeypatch):
    tools(tmp_path, "useradd", "groupadd")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(accounts, "missing_users", lambda: ["alias", "qmailq"])
    monkeypatch.setattr(accounts, "missing_groups", lambda: ["qmail", "nofiles"])
    accounts.make("/var/qmail")
    tail = "--shell /usr/sbin/nologin"
    assert (tmp_path / "log").read_text().splitlines() == [
        "groupadd --system qmail",
        "groupadd --system nofiles",
        f"useradd --system --gid nofiles --no-create-home --home-dir /var/qmail/alias {tail} alias",
        f"useradd --system --gid qmail --no-create-home --home-dir /var/qmail {tail} qmailq",
    ]


def test_busybox_makes_users_too_and_nothing_else_is_an_error(tmp_path, monkeypatch):
    tools(tmp_path, "adduser", "addgroup")
    monkeypatch.setenv("PATH", str(tmp_path))
    made = list(accounts.commands("/var/qmail", ["qmaild"], ["nofiles"]))
    assert [command[0] for command in made] == ["addgroup", "adduser"]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(LookupError):
        list(accounts.commands("/var/qmail", ["qmaild"], []))


def test_only_missing_users_are_made():
    known = [name for name in ("root", "alias", "qmaild") if accounts.user(name) is not None]
    assert not set(known) & set(accounts.missing_users())


def test_a_home_that_the_account_alias_does_not_know_is_told():
    if qmail_ids().single:
        pytest.skip("needs root and the qmail users")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = pluq("init", "--home", f"{folder}/home", *NAMES)
    assert made.returncode == 0
    assert f"usermod --home {folder}/home/alias alias" in made.stderr


def test_root_without_the_qmail_users_is_told_what_that_means(tmp_path, monkeypatch, capsys):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    monkeypatch.setattr("pluq.config.home.qmail_ids", current_ids)
    monkeypatch.setattr(sys, "argv", ["pluq init", "--home", str(tmp_path / "home"), *NAMES])
    assert command.main() == 0
    assert "everything will run as root; --users makes them" in capsys.readouterr().err


def test_a_profile_whose_libraries_are_not_installed_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["pluq init", "--home", str(tmp_path / "home"), *NAMES, "--profile", "mx"])
    assert command.main() == 100
    assert "need cryptography and spf, which pip install 'pluq[all]' brings" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
