"""Sites with damage of many kinds: whatever is cut, swapped or in a file's place, a report is made and pluq.toml can be read."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from pluq.migrate.report import installed_plugins, make_report, readable
from pluq.migrate.survey import NotASite, Survey, find_home
from pluq.migrate.tree import Tree

SITES = sorted((Path(__file__).parent / "sites").glob("*.site"))
PIECES = [b"\0", b"'", b'"', b"`", b"$(", b"${", b"\\", b"|", b"((", b"<<", b"\xff\xfe", b":", b"=", b"!" * 50, b"\r"]


def write_site(root: Path, site: Path) -> list[Path]:
    """Make the plain files of a site, without its links and databases; return them."""
    made = []
    for block in site.read_text().partition("\n%% ")[0].split("\n@@ ")[1:]:
        header, _, text = block.partition("\n")
        if " -> " in header or header.endswith("/"):
            continue
        path = root / header.split()[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        made.append(path)
    return made


def damage(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    at = chance.randint(0, len(data))
    kind = chance.randrange(6)
    if kind == 0:
        path.write_bytes(data[:at])
    elif kind == 1:
        path.write_bytes(data[:at] + chance.choice(PIECES) + data[at:])
    elif kind == 2:
        path.write_bytes(bytes(chance.randrange(256) if chance.random() < 0.02 else octet for octet in data))
    else:
        path.unlink()
        if kind == 3:
            path.mkdir()
        elif kind == 4:
            os.mkfifo(path)
        else:
            path.symlink_to(chance.choice([path.name, "/nowhere", "../" * 30 + "x"]))


@pytest.mark.parametrize("site", SITES, ids=lambda path: path.stem)
def test_no_damage_keeps_a_report_from_being_made(site: Path, tmp_path: Path) -> None:
    chance = random.Random(site.stem)
    files = write_site(tmp_path, site)
    for path in chance.sample(files, len(files) // 3):
        damage(path, chance)
    tree = Tree(str(tmp_path))
    try:
        survey = Survey(tree, find_home(tree))
    except NotASite:
        return
    report = make_report(survey, installed_plugins())
    assert json.dumps(report) and readable(report)
    assert [one for one in report["warnings"] if one["id"] == "x-toml"] == []
