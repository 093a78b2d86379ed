"""qmail-qstat: count the messages in the queue. Source: qmail-qstat(8)."""

from __future__ import annotations

import os
import stat
import sys

from pluq.config.home import Home


def main() -> int:
    home = Home.from_environment()
    failures: list[OSError] = []
    messages = count_files(f"{home.queue}/mess", failures)
    todo = count_files(f"{home.queue}/todo", failures)
    sys.stdout.write(f"messages in queue: {messages}\nmessages in queue but not yet preprocessed: {todo}\n")
    for error in failures:
        sys.stderr.write(f"qmail-qstat: {error.filename}: {os.strerror(error.errno or 0)}\n")
    return 0


def count_files(folder: str, failures: list[OSError]) -> int:
    """Count the regular files below a folder; what cannot be read is told in `failures`."""
    found = 0
    for path, _folders, names in os.walk(folder, onerror=failures.append):
        for name in names:
            try:
                found += stat.S_ISREG(os.lstat(f"{path}/{name}").st_mode)
            except FileNotFoundError:
                continue  # it left the queue meanwhile
    return found
