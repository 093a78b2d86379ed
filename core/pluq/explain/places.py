"""Which line of which file: control files, tcprules, users/assign, .qmail, pluq.toml.

The programs keep what files say and forget where. Here the file is read again, by the same rules, to find the line of a key.
"""

from __future__ import annotations

from collections.abc import Callable

from pluq.config import Home
from pluq.config.site import Role
from pluq.errors import ConfigError
from pluq.store.control import numbered_lines, read_file
from pluq.store.tcprules import numbered_rules
from pluq.store.users import assignments


def short(home: Home, path: str) -> str:
    """Return a path as an administrator says it: relative to the home if it lies there."""
    return path.removeprefix(f"{home.path}/")


def control_line(home: Home, name: str, is_it: Callable[[bytes], bool], last: bool = False) -> str:
    """Return "control/NAME:LINE" of the first line (or the last one) that is meant; without the line where there is none."""
    found = [number for number, line in numbered_lines(read_file(home.control(name)) or b"") if is_it(line)]
    return f"control/{name}:{found[-1 if last else 0]}" if found else f"control/{name}"


def listed(home: Home, name: str, entry: bytes) -> str:
    """Return the place of an entry in a list whose case does not matter."""
    return control_line(home, name, lambda line: line.lower() == entry)


def mapped(home: Home, name: str, key: bytes) -> str:
    """Return the place of a key in a file of `key:value` lines, of which the last one counts."""
    return control_line(home, name, lambda line: b":" in line and line.partition(b":")[0].lower() == key, last=True)


def line_or_me(home: Home, name: str) -> str:
    """Return the file that a setting comes from which falls back on control/me."""
    return f"control/{name}:1" if home.controls.line(name) is not None else "control/me:1"


def rule_place(home: Home, path: str, rule: tuple[bytes, bytes]) -> tuple[str, str]:
    """Return the place of a rule, and a warning where the text of the rules and the cdb made from it do not agree."""
    has_cdb = read_file(f"{path}.cdb") is not None
    try:
        written = [(number, data) for number, address, data in text_rules(path) if address == rule[0]]
    except ConfigError as error:
        return short(home, f"{path}.cdb"), f"{error}; {short(home, path)}.cdb is what counts"
    place = f"{short(home, path)}:{written[0][0]}" if written else short(home, path)
    if not has_cdb:
        return place, ""
    if written and written[0][1] == rule[1]:
        return f"{place}, in {short(home, path)}.cdb", ""
    stale = f"{short(home, path)} says otherwise, {short(home, path)}.cdb is what counts: make it anew"
    return f"{short(home, path)}.cdb", stale if read_file(path) is not None else ""


def text_rules(path: str) -> list[tuple[int, bytes, bytes]]:
    """Return the rules of a text file with their lines. Raises ConfigError."""
    return list(numbered_rules(read_file(path) or b"", path))


def assignment_place(home: Home, key: bytes, record: bytes) -> tuple[str, str]:
    """Return the place of an assignment in users/assign, and a warning where users/cdb was not made from it."""
    found: dict[bytes, tuple[int, bytes]] = {}
    try:
        lines = (read_file(f"{home.users}/assign") or b"").splitlines(keepends=True)
        for number, (known, value) in enumerate(assignments(lines, "users/assign"), 1):
            found.setdefault(known, (number, value))
    except ConfigError as error:
        return "users/cdb", f"{error}; users/cdb is what counts"
    if key not in found:
        return "users/cdb", "users/assign has no such line, users/cdb is what counts: run qmail-newu"
    number, value = found[key]
    stale = "" if record.startswith(value) else "users/assign says otherwise, users/cdb is what counts: run qmail-newu"
    return f"users/assign:{number}", stale


def plugin_place(home: Home, role: Role, plugin: str) -> str:
    """Return the line of pluq.toml where the settings of a plugin in a role begin, or the list that names it."""
    for table in reversed(role.tables):
        if plugin in table.values:
            return f"{short(home, table.file)}:{table.line(plugin)}"
    holder = role.plugins_table
    return "" if holder is None else f"{short(home, holder.file)}:{holder.line('plugins')}"
