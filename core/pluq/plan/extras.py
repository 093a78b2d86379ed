"""What a plugin needs beside pluq: the libraries of the extra that bears its name, as in `pip install "pluq[spf]"`.

Only a warning comes of it: some plugins do with less, and a library may be there that its packager has called something else.

Source: the core metadata of Python packages (Requires-Dist), PEP 508.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

REQUIREMENT = re.compile(
    r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*\(?(?:>=\s*([0-9.]+))?[^;]*;\s*extra\s*==\s*['\"]([a-z0-9._-]+)['\"]"
)


def missing_libraries(plugins: Iterable[str], package: str = "pluq") -> Iterator[str]:
    """Yield a sentence for each library that a plugin of a package declares, and that is not there or too old."""
    wanted = set(plugins)
    for line in _requirements(package):
        found = REQUIREMENT.match(line)
        if found is None or found[3] not in wanted:
            continue
        library, least, extra = found.groups()
        fault = _fault(library, least or "0")
        if fault:
            yield f"plugin {extra!r}: the library {library} {fault}; pip install '{package}[{extra}]'"


def _requirements(package: str) -> list[str]:
    try:
        return requires(package) or []
    except PackageNotFoundError:
        return []


def _fault(library: str, least: str) -> str | None:
    try:
        there = version(library)
    except PackageNotFoundError:
        return "is not installed"
    return f"is {there}, and should be {least} at least" if _numbers(there) < _numbers(least) else None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:4])
