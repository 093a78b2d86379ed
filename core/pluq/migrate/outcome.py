"""What a run script can see of a site, and what came of it: values that whoever interprets scripts shares with whoever reads the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class User(Protocol):
    @property
    def line(self) -> str: ...

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...

    @property
    def home(self) -> str: ...


class World(Protocol):
    """What a script can see of the site. Paths are absolute."""

    def text(self, path: str) -> str | None: ...

    def kind(self, path: str) -> str:
        """Return "file", "folder", "other", or "" where there is nothing."""

    def executable(self, path: str) -> bool: ...

    def user(self, name: str) -> User | None: ...

    def group_id(self, name: str) -> int | None: ...

    def names(self, path: str) -> list[str]: ...

    def hostname(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Variable:
    """A value, whether children see it, and the file and line that set it."""

    value: str
    exported: bool
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Started:
    """A program that would be started. `replaces`: by exec."""

    argv: tuple[str, ...]
    variables: dict[str, Variable]
    path: str
    line: int
    replaces: bool
    folder: str


@dataclass(frozen=True, slots=True)
class Fault:
    path: str
    line: int
    why: str


@dataclass
class Outcome:
    """What came of a script. `assigned`: the last value of each name in each file; `expanded`: the names it used itself."""

    started: list[Started] = field(default_factory=list)
    assigned: dict[tuple[str, str], Variable] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    sourced: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    expanded: set[str] = field(default_factory=set)
    stopped: tuple[str, int] | None = None
