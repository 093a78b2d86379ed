"""pluq plugin new: a folder that passes its own tests at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pluq.commands.plugin import write_files


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
