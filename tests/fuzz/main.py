"""Fuzz every parser of strangers' bytes: tests/fuzz/run [SECONDS] [--only WORD] [--corpus FOLDER] [--found FOLDER]

Each target runs for so many seconds in a process of its own, which is ended by an input that takes longer than 10 seconds or more than
512 MiB. Coverage leads the way (atheris). An input that makes a target fail is written to FOLDER/TARGET/; put there, in tests/fuzz/found,
it is run by every later test. With --corpus what was learnt is kept for the next time. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import FOUND, TARGETS, inputs

INPUT_SECONDS = 10
MEMORY_MIB = 512
MAX_BYTES = 8192
STARTING_SECONDS = 120
DONE = re.compile(r"Done (\d+) runs")
COVERAGE = re.compile(r"cov: (\d+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=int, default=60)
    parser.add_argument("--only", metavar="WORD", default="", help="targets whose name contains it")
    parser.add_argument("--corpus", metavar="FOLDER", help="keep the inputs that reached something new")
    parser.add_argument("--found", metavar="FOLDER", default=str(FOUND), help="where to write what fails")
    options = parser.parse_args()
    print("| target | seconds | inputs | edges reached | result |\n|---|---|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name in TARGETS:
            if options.only in name:
                good &= fuzz(name, options.seconds, Path(options.corpus or folder), Path(options.found))
    return 0 if good else 1


def fuzz(name: str, seconds: int, corpus: Path, found: Path) -> bool:
    """Run one target; print its line of the table, and what it found."""
    mine = corpus / name
    mine.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs(name)):
        (mine / f"seed{number}").write_bytes(data)
    (found / name).mkdir(parents=True, exist_ok=True)
    limits = (
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={MAX_BYTES}",
    )
    command = [sys.executable, "-m", "tests.fuzz.engine", name, *limits, f"-artifact_prefix={found / name}/", str(mine)]
    ended = subprocess.run(command, capture_output=True, timeout=seconds + STARTING_SECONDS, check=False)
    said = ended.stderr.decode(errors="replace") + ended.stdout.decode(errors="replace")
    runs, edges = DONE.findall(said), COVERAGE.findall(said)
    result = "nothing" if ended.returncode == 0 else "FOUND SOMETHING"
    print(f"| {name} | {seconds} | {(runs or ['?'])[-1]} | {(edges or ['?'])[-1]} | {result} |", flush=True)
    if ended.returncode:
        print("\n".join(line for line in said.splitlines() if not line.startswith("#"))[-3000:], flush=True)
    if not any((found / name).iterdir()):
        (found / name).rmdir()
    return ended.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
