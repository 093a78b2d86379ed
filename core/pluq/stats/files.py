"""The files of a log, the oldest first: single files, compressed ones, folders of multilog and svlogd.

A folder has closed files, @TAI64N.s (.u: the logger died), and the present one, current.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

PRESENT = "current"
LINE_BYTES = 65536
"""No line of a log is longer; a longer one is read as several."""


def log_files(paths: Iterable[str]) -> Iterator[str]:
    """Yield the files that `paths` mean: a folder stands for those of a logger in it. Raises OSError."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        names = sorted(name for name in os.listdir(path) if name.startswith(("@", "20")))
        closed = [f"{path}/{name}" for name in names]
        yield from closed
        if os.path.exists(f"{path}/{PRESENT}"):
            yield f"{path}/{PRESENT}"
        elif not closed:
            raise FileNotFoundError(2, "no log of multilog or svlogd in this folder", path)


def lines(path: str) -> Iterator[bytes]:
    """Yield the lines of one file, "-" for standard input, without their ends. Raises OSError."""
    if path == "-":
        with open(0, "rb", closefd=False) as stdin:
            yield from _lines(stdin)
        return
    with cast(BinaryIO, gzip.open(path, "rb")) if path.endswith(".gz") else open(path, "rb") as file:
        yield from _lines(file)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES):
        yield line.rstrip(b"\n")
