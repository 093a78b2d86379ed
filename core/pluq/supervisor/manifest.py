"""Everything that an installed qmail home consists of, as one list: what `pluq install` makes and `pluq instcheck` looks at.

Folders, queue and locks are those of hier. Modes are qmail's, but for two differences: nothing is set-uid, and a program that qmail lets
others only execute (0711) can be read as well (0755), because an interpreter has to read it.

Source: hier.c of notqmail.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass

from pluq.supervisor import hier
from pluq.supervisor.distribution import Brought

# Only root has a use for them.
ROOTS_OWN = ("qmail-lspawn", "qmail-newmrh", "qmail-newu", "qmail-start")
DOCUMENTS = ("", "/man1", "/man5", "/man7", "/man8")


@dataclass(frozen=True)
class Entry:
    """One path below the home, with the owner and mode that it has to have; its group is qmail. `source` is copied there.

    `kind` is a file type of stat(2); `size` that of a new file without a source.
    """

    path: str
    kind: int
    owner: str
    mode: int
    source: str | None = None
    size: int = 0

    @property
    def is_program(self) -> bool:
        return self.path.startswith("bin/")


def entries(brought: Brought) -> Iterator[Entry]:
    """Yield everything, folders before what lies in them."""
    yield from folders()
    yield from (Entry(path, stat.S_IFREG, owner, mode, size=size) for path, owner, mode, size in hier.FILES)
    path, owner, mode = hier.TRIGGER
    yield Entry(path, stat.S_IFIFO, owner, mode)
    for name, source in brought.programs.items():
        yield Entry(f"bin/{name}", stat.S_IFREG, hier.ROOT, 0o700 if name in ROOTS_OWN else 0o755, source)
    for name, source in brought.man_pages.items():
        yield Entry(f"man/{name}", stat.S_IFREG, hier.ROOT, 0o644, source)
    for name, source in brought.shared.items():
        if name.startswith("boot/"):
            yield Entry(name, stat.S_IFREG, hier.ROOT, 0o755, source)


def folders() -> Iterator[Entry]:
    for path, owner, mode in hier.FOLDERS:
        yield Entry(path, stat.S_IFDIR, owner, mode)
        if path in hier.SPLIT_FOLDERS:
            yield from (Entry(f"{path}/{number}", stat.S_IFDIR, owner, mode) for number in range(hier.SPLIT))
    for name in ("boot", *(f"man{section}" for section in DOCUMENTS)):
        yield Entry(name, stat.S_IFDIR, hier.ROOT, 0o755)
