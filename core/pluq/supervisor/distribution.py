"""What the installed distribution of pluq brings besides its modules: programs, man pages, run files, boot scripts, units.

pip puts programs beside the interpreter and the rest below PREFIX/share, and writes all of it down; see pyproject.toml and
packaging/wheel.py.
"""

from __future__ import annotations

import os
from functools import cached_property
from importlib.metadata import Distribution, distribution

MAN = "share/man/"
SHARED = "share/pluq/"
UNIT = "systemd/pluq.service"


class Brought:
    """The files of the distribution, by what they are. All paths are absolute."""

    def __init__(self, found: Distribution | None = None) -> None:
        self._distribution = found or distribution("pluq")

    @cached_property
    def programs(self) -> dict[str, str]:
        """The programs by name."""
        folder = self._scripts_folder
        names = [point.name for point in self._distribution.entry_points if point.group == "console_scripts"]
        return {name: f"{folder}/{name}" for name in sorted(names)}

    @cached_property
    def man_pages(self) -> dict[str, str]:
        """The man pages by their path below the folder of manuals: man8/qmail-send.8."""
        return self._below(MAN)

    @cached_property
    def shared(self) -> dict[str, str]:
        """Everything else by its path: boot/home, pluq/run, systemd/pluq.service."""
        return self._below(SHARED)

    @cached_property
    def _located(self) -> list[tuple[str, str]]:
        """The recorded path of each file, and where it is."""
        files = self._distribution.files or []
        return [(str(file), os.path.normpath(str(self._distribution.locate_file(file)))) for file in files]

    @property
    def _scripts_folder(self) -> str:
        return next(os.path.dirname(path) for _, path in self._located if path.endswith("/bin/pluq"))

    def _below(self, folder: str) -> dict[str, str]:
        found = ((recorded.partition(f"/{folder}")[2], path) for recorded, path in self._located)
        return {name: path for name, path in sorted(found) if name}
