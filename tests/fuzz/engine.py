"""Run one target under atheris: python -m tests.fuzz.engine TARGET [libFuzzer options and folders]."""

from __future__ import annotations

import sys

import atheris

PLUGINS = ("arc", "auth", "dane", "dkim", "dmarc", "mtasts", "spf", "spp", "srs")

with atheris.instrument_imports(include=["pluq", *(f"pluq_{name}" for name in PLUGINS)]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target.run)
    atheris.Fuzz()
