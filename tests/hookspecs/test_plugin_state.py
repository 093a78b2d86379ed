"""A plugin's own folder below the home."""

from __future__ import annotations

from pathlib import Path

import pytest

from pluq import Plugin
from pluq.config import Home
from pluq.errors import ConfigError
from pluq.testing.plugins import make_plugin


class Keeper(Plugin):
    """Keep something."""

    name = "keeper"


def test_a_plugin_has_a_private_folder_of_its_role(tmp_path: Path) -> None:
    (tmp_path / "state" / "smtpd").mkdir(parents=True)
    plugin = make_plugin(Keeper, home=Home(str(tmp_path)))
    folder = Path(plugin.state_folder())
    assert folder == tmp_path / "state" / "smtpd" / "keeper"
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "kept").touch()
    assert plugin.state_folder() == str(folder)
    assert (folder / "kept").exists()


def test_a_home_without_that_folder_is_named(tmp_path: Path) -> None:
    plugin = make_plugin(Keeper, home=Home(str(tmp_path)))
    with pytest.raises(ConfigError, match=r"state/smtpd: not there: run `pluq init`"):
        plugin.state_folder()
