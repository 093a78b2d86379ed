"""Run one target under atheris: python -m tests.fuzz.engine TARGET [libFuzzer options and folders]."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

PLUGINS = Path(__file__).parents[2] / "plugins"

with atheris.instrument_imports(include=["pluq", *(f"pluq_{folder.name}" for folder in PLUGINS.iterdir())]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target.run)
    atheris.Fuzz()
