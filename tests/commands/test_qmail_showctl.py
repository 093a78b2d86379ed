from __future__ import annotations

import os
from pathlib import Path

import pytest

from pluq.commands import qmail_showctl
from pluq.config import Home
from pluq.store.inventory import INVENTORY


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    control = tmp_path / "control"
    control.mkdir()
    (control / "me").write_text("me.example\n")
    monkeypatch.setenv("PLUQ_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(home: Path, **files: str) -> None:
    for name, content in files.items():
        (home / "control" / name.replace("__", ".")).write_text(content)


def show(capfdbinary: pytest.CaptureFixture[bytes]) -> dict[str, str]:
    """Return what is said of each file."""
    assert qmail_showctl.main() == 0
    paragraphs = capfdbinary.readouterr().out.decode().split("\n\n")[1:]
    return dict(paragraph.rstrip("\n").split(": ", 1) for paragraph in paragraphs)


def test_a_number_is_the_one_that_the_line_begins_with(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write(home, databytes="12 bytes\n", queuelifetime="4294967295\n", timeoutsmtpd="x\n")
    said = show(capfdbinary)
    assert said["databytes"] == "SMTP DATA limit is 12 bytes."
    assert said["queuelifetime"] == "Message lifetime in the queue is 0 seconds."
    assert said["timeoutsmtpd"] == "(Default.) SMTP server data timeout is 1200 seconds."


def test_without_me_the_defaults_are_the_names_of_the_files(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (home / "control/me").unlink()
    said = show(capfdbinary)
    assert said["me"] == "(Default.) My name is undefined! Uh-oh."
    assert said["helohost"] == "(Default.) SMTP client HELO host name is helohost."


def test_a_file_that_cannot_be_read_is_told_and_the_rest_too(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (home / "control/locals").mkdir()
    said = show(capfdbinary)
    assert said["locals"] == "Oops! Trouble reading this file."
    assert said["virtualdomains"] == "(Default.) No virtual domains."


def test_an_unreadable_me_ends_the_report(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (home / "control/me").unlink()
    (home / "control/me").mkdir()
    assert qmail_showctl.main() == 111
    assert capfdbinary.readouterr().out.endswith(b".\nOops! Trouble reading control/me.")


def test_no_home_and_no_control_are_told_apart(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    os.rename(home / "control", home / "gone")
    assert qmail_showctl.main() == 111
    assert capfdbinary.readouterr().out.endswith(b"Oops! Unable to chdir to control.\n")


def test_an_unknown_file_gets_qmails_words(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write(home, mystery="?\n", defaultdelivery="./Maildir/\n")
    said = show(capfdbinary)
    assert said["mystery"] == said["defaultdelivery"] == "I have no idea what this file does."


def test_a_plugins_file_names_the_plugin_and_where_it_is_enabled(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    write(home, badrcptto="x\n", taps="x\n")
    assert show(capfdbinary)["badrcptto"] == "Refused recipients. Used by the badmail plugin, enabled in no profile."
    write(home, pluq__toml='[profile.mx]\nplugins = ["badmail"]\n[queue]\nplugins = ["taps", "badmail"]\n')
    said = show(capfdbinary)
    assert said["badrcptto"].endswith("Used by the badmail plugin, enabled in mx, queue.")
    assert said["taps"].endswith("Used by the taps plugin, enabled in queue.")
    assert said["pluq.toml"] == "Profiles and plugins."


def test_a_plugin_that_is_not_installed_is_said_not_to_be(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, smtpplugins="x\n")
    monkeypatch.setattr("pluq.plan.load.installed", dict)
    assert show(capfdbinary)["smtpplugins"].endswith("Used by the spp plugin, which is not installed.")


def test_a_broken_pluq_toml_is_told_where_it_matters(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write(home, badrcptto="x\n", pluq__toml="[profile\n")
    assert "pluq.toml:1" in show(capfdbinary)["badrcptto"]


def test_every_file_in_the_inventory_has_a_sentence(home: Path) -> None:
    others = qmail_showctl.Others(Home(str(home)))
    for entry in INVENTORY:
        for name in entry.names.split():
            assert others.tell(name.rstrip("*/")).endswith(b"."), name


def test_strange_bytes_do_not_reach_the_terminal(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (home / "control/me").write_bytes(b"m\xe9\x1b[2J\n")
    assert show(capfdbinary)["me"] == "My name is m??[2J."
