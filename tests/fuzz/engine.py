"""Run one target under atheris: python -m tests.fuzz.engine TARGET [libFuzzer options and folders]."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pluq", "pluq_auth", "pluq_dkim", "pluq_spf", "pluq_spp", "pluq_srs"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target.run)
    atheris.Fuzz()
