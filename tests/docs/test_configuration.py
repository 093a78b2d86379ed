"""The profiles of docs/configuration.md are what `pluq check` finds nothing wrong with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pluq.config import Home
from pluq.config.site import read_site
from pluq.plan.inspect import places, plans

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_each_example_compiles(text: str, tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("mx.example.org\n")
    (tmp_path / "control" / "pluq.toml").write_text(text)
    home = Home(str(tmp_path))
    site = read_site(home)
    found = dict(plans(home, site))
    assert list(found) == [name for _, name in places(site)]
    assert [str(plan) for plan in found.values() if isinstance(plan, Exception)] == []
