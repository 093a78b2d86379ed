"""Every recipe of docs/profiles.md works as it stands: its commands run, and `pluq check` finds nothing wrong."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pluq.config import Home, current_ids
from pluq.supervisor import hier
from pluq.testing.stack import BIN

PAGE = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()
RECIPES = {part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
NEEDED = {
    "spf": "spf",
    "tls": "cryptography",
    "dkim": "cryptography",
    "auth": "scramp",
    "srs": "srslib",
    "badmail": "re2",
}


def blocks(recipe: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", recipe, re.MULTILINE | re.DOTALL)


def run(home: Home, folder: str, script: str) -> None:
    environment = {**os.environ, "PLUQ_HOME": home.path, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if blocks(recipe, "toml")])
def test_a_recipe_passes_the_check(name: str, tmp_path: Path) -> None:
    (profiles,) = blocks(RECIPES[name], "toml")
    for plugin, module in NEEDED.items():
        if f'"{plugin}"' in profiles:
            pytest.importorskip(module)
    home = Home(str(tmp_path / "home"))
    hier.make_home(home, current_ids())
    hier.mark_single_user(home, current_ids())
    hier.make_site(
        home, current_ids(), hier.Site("mail.example.org", ("mail.example.org", "example.org"), "./Maildir/")
    )
    Path(home.control("pluq.toml")).write_text(profiles)
    for script in blocks(RECIPES[name], "sh"):
        run(home, home.control_dir, script)
    run(home, home.control_dir, "pluq check")


def test_a_recipe_is_no_longer_than_its_file_and_its_commands() -> None:
    """One pluq.toml and at most one block of commands each, so that nobody has to guess what belongs together."""
    for name, recipe in RECIPES.items():
        assert len(blocks(recipe, "toml")) <= 1, name
        assert len(blocks(recipe, "sh")) <= 1, name


def test_what_init_writes_is_in_the_book() -> None:
    from pluq.supervisor.starters import STARTERS

    shown = set(re.findall(r"^\[profile\.(\w+)\]$", PAGE, re.MULTILINE))
    assert {table for starter in STARTERS.values() for table in starter.tables} <= shown
