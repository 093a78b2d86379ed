"""qmail-newmrh: compile control/morercpthosts into control/morercpthosts.cdb.

One domain a line, as in rcpthosts; it may be run at any time: the old file counts until the new one is in place.

Exit status: 0, or 111 with the reason. Source: qmail-newmrh(8).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pluq.store.cdb import write_cdb

if TYPE_CHECKING:
    from collections.abc import Iterator

FATAL = "qmail-newmrh: fatal: "


def main() -> int:
    from pluq.config.home import Home
    from pluq.store.oserror import error_text

    os.umask(0o033)
    home = Home.from_environment()
    try:
        os.chdir(home.path)
    except OSError as error:
        return die(f"unable to chdir to {home.path}: {error_text(error.errno)}")
    try:
        with open("control/morercpthosts", "rb") as file:
            records = list(domains(file.read()))
    except OSError as error:
        return die(f"unable to read control/morercpthosts: {error_text(error.errno)}")
    try:
        write_cdb("control/morercpthosts.cdb", records, "control/morercpthosts.tmp", 0o666)
    except OSError as error:
        if error.filename2 is not None:
            move = "control/morercpthosts.tmp to control/morercpthosts.cdb"
            return die(f"unable to move {move}{error_text(error.errno)}")  # qmail has no colon here
        return die(f"unable to write to control/morercpthosts.tmp: {error_text(error.errno)}")
    return 0


def domains(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records for a file: each line in lower case, without blanks at its end; empty ones and comments are left out."""
    for line in text.lower().split(b"\n"):
        line = line.rstrip(b" \t")
        if line and not line.startswith(b"#"):
            yield line, b""


def die(text: str) -> int:
    sys.stderr.write(f"{FATAL}{text}\n")
    return 111
