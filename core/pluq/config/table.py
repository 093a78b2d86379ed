"""One table of a TOML file, with the line of each key: what every error of the configuration names.

    key_lines("[a]\\nb.c = 1\\n")  ->  {"a": 1, "a.b": 2, "a.b.c": 2}

Source: TOML 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pluq.errors import ConfigError


def nearest(word: str, words: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest of `words`, or nothing."""
    found = get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True)
class Table:
    """One table of the file: its dotted name, its values, and the line of each key."""

    file: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def line(self, key: str | None = None) -> int | None:
        """Return the line of a key of this table, or of the table itself."""
        full = self.name if key is None else f"{self.name}.{key}"
        return self.lines.get(full)

    def error(self, key: str | None, why: str) -> ConfigError:
        return ConfigError(self.file, why, self.line(key) or self.line(), f"{self.name}.{key}" if key else self.name)

    def refuse_unknown(self, allowed: Collection[str]) -> None:
        """Raise ConfigError for the first key that is not allowed."""
        for key in self.values:
            if key not in allowed:
                raise self.error(key, f"unknown setting{nearest(key, allowed)}")

    def sub(self, key: str) -> Table:
        """Return the table below `key`, an empty one where there is none."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "expected a table of settings")
        return Table(self.file, f"{self.name}.{key}", value, self.lines)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, () where the key is absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "expected a list of texts")
        return tuple(value)

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "expected text in quotes")
        return value


_HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Return the line (from 1) where each table and key of a valid TOML text begins, by its dotted name.

    Lines inside a multi-line text could look like a key; they are below a key that has its line already, and the first wins.
    """
    lines: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.match(line)
        if header:
            prefix = _dotted(header[1])
            _note(lines, prefix, number)
            continue
        key = _KEY.match(line)
        if key:
            _note(lines, f"{prefix}.{_dotted(key[1])}" if prefix else _dotted(key[1]), number)
    return lines


def _dotted(raw: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in raw.split("."))


def _note(lines: dict[str, int], name: str, number: int) -> None:
    """Remember the line of a name and of the tables that its dots imply."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        lines.setdefault(".".join(parts[:count]), number)
