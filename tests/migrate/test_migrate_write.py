"""--write changes one file and keeps the old one; --undo leaves no trace; nothing else ever changes."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from pluq.commands import migrate as command
from pluq.errors import PermanentFailure
from pluq.migrate import write

RUN = "#!/bin/sh\ntouch /tmp/must-not-run\nexec tcpserver -u 7791 0 25 /var/qmail/bin/qmail-smtpd\n"


def snapshot(root):
    found = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            data = os.readlink(path) if os.path.islink(path) else None
            if data is None and os.path.isfile(path):
                with open(path, "rb") as file:
                    data = (os.stat(path).st_mtime_ns, hashlib.sha256(file.read()).hexdigest())
            found[os.path.relpath(path, root)] = (os.lstat(path).st_mode, data)
    return found


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["pluq migrate", *map(str, arguments)])
    code = command.main()
    return code, capsys.readouterr()


@pytest.fixture
def site(build_site):
    return build_site({"var/qmail/supervise/smtp/run": RUN})


def test_a_report_changes_nothing(site, monkeypatch, capsys):
    before = snapshot(site)
    for arguments in ([site], [site, "--json"], [site / "var/qmail", "--json"]):
        assert run(monkeypatch, capsys, *arguments)[0] == 0
    assert snapshot(site) == before


def test_the_home_and_the_root_give_the_same_report(site, monkeypatch, capsys):
    reports = [run(monkeypatch, capsys, where, "--json")[1].out for where in (site, site / "var/qmail")]
    assert json.loads(reports[0]) == json.loads(reports[1])


@pytest.mark.parametrize("old", [None, "[core]\n"])
def test_undo_leaves_what_was_there(site, monkeypatch, capsys, old):
    if old is not None:
        (site / "var/qmail/control/pluq.toml").write_text(old)
    before = snapshot(site)
    for _ in range(2):
        assert run(monkeypatch, capsys, site, "--write")[0] == 0
    assert "0.0.0.0:25" in (site / "var/qmail/control/pluq.toml").read_text()
    assert run(monkeypatch, capsys, site, "--undo")[0] == 0
    assert snapshot(site) == before


def test_undo_keeps_what_was_edited(tmp_path):
    write.write(str(tmp_path), "made = 1\n")
    (tmp_path / "pluq.toml").write_text("mine = 2\n")
    write.undo(str(tmp_path))
    assert (tmp_path / "pluq.toml.edited").read_text() == "mine = 2\n"
    assert not (tmp_path / "pluq.toml").exists()


def test_there_is_nothing_to_undo_twice(tmp_path):
    write.write(str(tmp_path), "")
    write.undo(str(tmp_path))
    with pytest.raises(PermanentFailure):
        write.undo(str(tmp_path))


def test_no_site_is_100(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, capsys, tmp_path)[0] == 100
    assert run(monkeypatch, capsys, tmp_path / "none", "--json")[0] == 100


def test_names_that_are_not_utf8_are_escaped(build_site, monkeypatch, capsys):
    site = build_site({})
    with open(os.fsencode(site) + b"/var/qmail/control/odd\xff", "wb"):
        pass
    code, output = run(monkeypatch, capsys, site, "--json")
    assert code == 0
    assert "odd\\udcff" in output.out
    assert run(monkeypatch, capsys, site)[0] == 0
