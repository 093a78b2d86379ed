"""qmail-newmrh: the file that qmail-smtpd asks, made safely."""

import os

import pytest

from pluq.commands.qmail_newmrh import domains, main
from pluq.store.cdb import Cdb


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("PLUQ_HOME", str(tmp_path))
    umask = os.umask(0o022)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.umask(umask)


def test_lines_are_lowered_and_trimmed_and_comments_left_out():
    text = b"A.Example \t\n\n# no\n#no\n .b\n  \nlast"
    assert [key for key, _ in domains(text)] == [b"a.example", b" .b", b"last"]


def test_the_cdb_is_made_for_everybody_to_read(home):
    (home / "control/morercpthosts").write_bytes(b"a.example\n.b.example\n")
    assert main() == 0
    assert [key for key, _ in Cdb(str(home / "control/morercpthosts.cdb"))] == [b"a.example", b".b.example"]
    assert (home / "control/morercpthosts.cdb").stat().st_mode & 0o777 == 0o644
    assert not (home / "control/morercpthosts.tmp").exists()


def test_trouble_is_told_in_qmails_words(home, capsys):
    assert main() == 111
    said = capsys.readouterr().err
    assert said == "qmail-newmrh: fatal: unable to read control/morercpthosts: file does not exist\n"


def test_a_move_that_fails_leaves_the_old_file(home, capsys):
    (home / "control/morercpthosts").write_bytes(b"a.example\n")
    (home / "control/morercpthosts.cdb").mkdir()
    assert main() == 111
    said = capsys.readouterr().err
    assert said.endswith("unable to move control/morercpthosts.tmp to control/morercpthosts.cdbis a directory\n")
