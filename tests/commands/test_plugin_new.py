"""pluq plugin new: a folder that passes its own tests at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pluq.commands.plugin import write_files
from pluq.testing.plugins import load_plugin


def test_a_new_plugin_passes_its_own_tests_and_the_linters(tmp_path: Path) -> None:
    folder = tmp_path / "long_names"
    write_files(str(folder), "long_names")
    for command in (["pytest", "-q", "-p", "no:cacheprovider", "."], ["ruff", "check", "--no-cache", "."]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError):
        write_files(str(tmp_path / "mine"), "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = [str(Path(sys.executable).parent / "pluq"), "plugin", "new", *words]
    return subprocess.run(program, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_a_plugin_of_one_file_works_in_a_sites_folder(tmp_path: Path) -> None:
    assert run("--single", "long_names", cwd=tmp_path).returncode == 0
    assert load_plugin(tmp_path / "long_names.py").name == "long_names"
    again = run("--single", "long_names", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (100, "pluq plugin: ./long_names.py is there already\n")


def test_the_name_of_an_installed_plugin_is_not_given_twice(tmp_path: Path) -> None:
    done = run("spf", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        100,
        "pluq plugin: 'spf' is the name of an installed plugin; choose another\n",
    )
    assert list(tmp_path.iterdir()) == []
