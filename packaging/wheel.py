"""Part of the wheel's build (hatchling): man pages are made from docs/man and installed below share/man, where man finds them.

What does not have to be made (run files, units, boot scripts) is listed in pyproject.toml as shared data.
"""

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        maker = runpy.run_path(str(Path(self.root) / "docs" / "build_man.py"))
        self._folder = tempfile.TemporaryDirectory(prefix="pluq-man.")
        for page in maker["read_pages"]():
            path = Path(self._folder.name) / page.file_name
            path.write_text(maker["to_roff"](page), "ascii")
            build_data["shared_data"][str(path)] = f"share/man/man{page.section}/{page.file_name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()
