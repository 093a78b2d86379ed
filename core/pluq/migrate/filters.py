"""Programs that only read, which run scripts call in $(...): cat, head, grep -v '^#', cut, awk -F: '{print $3}', id,
getent, hostname.

They get the shell, their arguments and the standard input, and return whether they succeeded and what they print: UNKNOWN where
that is not known. A pattern is followed if it is a plain text with anchors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pluq.migrate.syntax import Unparsable

if TYPE_CHECKING:
    from pluq.migrate.shell import Shell

UNKNOWN = "\0"  # no value of a shell can hold it

Output = tuple[bool, str]
_UNREADABLE: Output = (False, "")


def _cat(shell: Shell, arguments: list[str], stdin: str) -> Output:
    text = shell.input([word for word in arguments if word != "-"], stdin)
    return _UNREADABLE if text is None else (True, text)


def _lines(arguments: list[str]) -> tuple[int, list[str]]:
    """Return the number and files of `-n 1 file`, `-n1 file`, `-1 file`."""
    count, names, rest = 10, [], list(arguments)
    while rest:
        word = rest.pop(0)
        digits = re.fullmatch(r"-n?([0-9]+)", word)
        if digits:
            count = int(digits[1])
        elif word == "-n" and rest and rest[0].isdigit():
            count = int(rest.pop(0))
        elif not word.startswith("-"):
            names.append(word)
    return count, names


def _head(shell: Shell, arguments: list[str], stdin: str) -> Output:
    count, names = _lines(arguments)
    text = shell.input(names, stdin)
    return _UNREADABLE if text is None else (True, "".join(text.splitlines(keepends=True)[:count]))


def _tail(shell: Shell, arguments: list[str], stdin: str) -> Output:
    count, names = _lines(arguments)
    text = shell.input(names, stdin)
    return _UNREADABLE if text is None else (True, "".join(text.splitlines(keepends=True)[-count:] if count else []))


# What run scripts grep for: words, with the anchors; a full regular expression of a stranger could run for ever.
_GREP_PATTERN = re.compile(r"(\^?)([^][*+?(){}|\\^$.]*|(?:\\[.#]|[^][*+?(){}|\\^$.])*)(\$?)")


def _grep(shell: Shell, arguments: list[str], stdin: str) -> Output:
    flags = "".join(word[1:] for word in arguments if word.startswith("-") and word != "-e")
    plain = [word for word in arguments if not word.startswith("-")]
    found = _GREP_PATTERN.fullmatch(plain[0]) if plain else None
    if found is None or set(flags) - set("vqEFihs"):
        raise Unparsable(shell.line, "a pattern that is not followed")
    text = shell.input(plain[1:], stdin)
    if text is None or UNKNOWN in text:
        return _UNREADABLE if text is None else (True, UNKNOWN)
    body = found[2].replace("\\", "")

    def matches(line: str) -> bool:
        body_of = body.lower() if "i" in flags else body
        line = line.lower() if "i" in flags else line
        if found[1] and found[3]:
            return line == body_of
        if found[1]:
            return line.startswith(body_of)
        return line.endswith(body_of) if found[3] else body_of in line

    chosen = [line for line in text.splitlines() if matches(line) != ("v" in flags)]
    return bool(chosen), "" if "q" in flags else "".join(f"{line}\n" for line in chosen)


def _cut(shell: Shell, arguments: list[str], stdin: str) -> Output:
    text = " ".join(arguments)
    delimiter = re.search(r"-d ?(\S)", text)
    number = re.search(r"-f ?([0-9]+)(?![0-9,-])", text)
    if not delimiter or not number or UNKNOWN in stdin:
        return True, UNKNOWN
    index = int(number[1]) - 1
    lines = [line.split(delimiter[1]) for line in stdin.splitlines()]
    return True, "".join(f"{parts[index] if index < len(parts) else ''}\n" for parts in lines if index >= 0)


def _awk(shell: Shell, arguments: list[str], stdin: str) -> Output:
    """The one program that run scripts have for it: awk -F: '{print $3}'."""
    found = re.fullmatch(r"-F ?(\S) \{ *print \$([0-9]+) *;? *\}(.*)", " ".join(arguments))
    if not found or UNKNOWN in stdin:
        return True, UNKNOWN
    text = shell.input(found[3].split(), stdin)
    index = int(found[2]) - 1
    if text is None:
        return _UNREADABLE
    lines = [line.split(found[1]) for line in text.splitlines()]
    return True, "".join(f"{parts[index] if 0 <= index < len(parts) else ''}\n" for parts in lines)


def _uname(shell: Shell, arguments: list[str], stdin: str) -> Output:
    return _hostname(shell, [], "") if arguments == ["-n"] else (True, UNKNOWN)


def _id(shell: Shell, arguments: list[str], stdin: str) -> Output:
    names = [word for word in arguments if not word.startswith("-")]
    flags = "".join(word[1:] for word in arguments if word.startswith("-"))
    user = shell.world.user(names[0] if names else "root")
    if user is None:
        return _UNREADABLE
    if "n" in flags:
        return True, user.line.partition(":")[0] + "\n"
    return (True, f"{user.gid if 'g' in flags else user.uid}\n") if flags else (True, UNKNOWN)


def _getent(shell: Shell, arguments: list[str], stdin: str) -> Output:
    if len(arguments) == 2 and arguments[0] == "passwd":
        user = shell.world.user(arguments[1])
        return (True, user.line + "\n") if user else _UNREADABLE
    if len(arguments) == 2 and arguments[0] == "group":
        gid = shell.world.group_id(arguments[1])
        return (True, f"{arguments[1]}:x:{gid}:\n") if gid is not None else _UNREADABLE
    return True, UNKNOWN


def _hostname(shell: Shell, arguments: list[str], stdin: str) -> Output:
    name = shell.world.hostname()
    return True, UNKNOWN if name is None else name + "\n"


def _echo(shell: Shell, arguments: list[str], stdin: str) -> Output:
    words = arguments[1:] if arguments[:1] == ["-n"] else arguments
    return True, " ".join(words) + ("" if words is not arguments else "\n")


def _printf(shell: Shell, arguments: list[str], stdin: str) -> Output:
    if len(arguments) == 2 and arguments[0] in ("%s", "%s\\n"):
        return True, arguments[1]
    return True, arguments[0] if len(arguments) == 1 and not set(arguments[0]) & set("%\\") else UNKNOWN


def _basename(shell: Shell, arguments: list[str], stdin: str) -> Output:
    name = arguments[0].rstrip("/").rpartition("/")[2] if arguments else ""
    return True, (name.removesuffix(arguments[1]) if len(arguments) > 1 else name) + "\n"


def _dirname(shell: Shell, arguments: list[str], stdin: str) -> Output:
    return True, (arguments[0].rstrip("/").rpartition("/")[0] or "." if arguments else ".") + "\n"


def _pwd(shell: Shell, arguments: list[str], stdin: str) -> Output:
    return True, shell.folder + "\n"


FILTERS: dict[str, Callable[[Shell, list[str], str], Output]] = {
    "cat": _cat,
    "head": _head,
    "tail": _tail,
    "grep": _grep,
    "egrep": _grep,
    "cut": _cut,
    "awk": _awk,
    "uname": _uname,
    "id": _id,
    "getent": _getent,
    "hostname": _hostname,
    "echo": _echo,
    "printf": _printf,
    "basename": _basename,
    "dirname": _dirname,
    "pwd": _pwd,
}
