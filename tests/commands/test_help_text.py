"""--help fits a terminal, whatever the docstring's own width is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pluq.commands.help_text import laid_out
from pluq.commands.pluq import VERBS
from pluq.commands.queue import VERBS as QUEUE_VERBS

PLUQ = str(Path(sys.executable).parent / "pluq")
COMMANDS = [[], *([verb] for verb in VERBS), *(["queue", verb] for verb in QUEUE_VERBS)]


def test_paragraphs_are_filled_and_lists_stay_lists() -> None:
    text = """One sentence that is longer than the line.
And another.

    short     stays as it is
    long      goes on below its second column, not at the margin

End.
"""
    assert list(laid_out(text, 40)) == [
        "One sentence that is longer than the",
        "line. And another.",
        "",
        "    short     stays as it is",
        "    long      goes on below its second",
        "              column, not at the margin",
        "",
        "End.",
    ]


def test_a_line_of_a_list_without_columns_goes_on_a_little_further_in() -> None:
    assert list(laid_out("Usage:\n\n    pluq verb [--one A] [--two B] [--three C]", 30))[2:] == [
        "    pluq verb [--one A] [--two",
        "        B] [--three C]",
    ]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_eighty_columns_and_exits_0(words: list[str]) -> None:
    done = subprocess.run(
        [PLUQ, *words, "--help"], capture_output=True, text=True, timeout=60, env={"COLUMNS": "80", "PATH": "/bin"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: pluq")
    assert [line for line in done.stdout.split("\n") if len(line) > 80] == []


def test_a_misspelt_verb_is_put_right() -> None:
    for words, hint in ((["chekc"], "did you mean 'check'?"), (["queue", "flsuh"], "did you mean 'flush'?")):
        done = subprocess.run([PLUQ, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 100
        assert hint in done.stderr
