"""Services that no run script starts: lines of inetd.conf, files of xinetd, units of systemd. Each as one command, read and not run.

A unit counts when it starts a program of qmail's or a listener that leads to one. A service that is switched off (`disable = yes`,
a unit that is masked) is down. Who accepts the connections stands in the chain as the step "inetd".

Source: inetd.conf(5), xinetd.conf(5), systemd.service(5), systemd.socket(5), systemd.exec(5).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from pluq.migrate import chain as chains
from pluq.migrate.chain import Step
from pluq.migrate.tree import Tree

UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
MAX_FILES = 500
MAX_TEXT = 64 << 10
PROGRAMS = re.compile(r"qmail-(smtpd|popup|pop3d|qmtpd|qmqpd|send|start|daemon)|ofmipd|/qmail/rc\b|svscan")


@dataclass
class Command:
    """One service: the file and line that say so, its arguments, its variables with their lines, and who listens for it."""

    name: str
    path: str
    line: int
    argv: list[str]
    variables: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    listener: Step | None = None
    down: bool = False
    expanded: set[str] = field(default_factory=set)


def commands(tree: Tree) -> Iterator[Command]:
    """Yield what inetd, xinetd and systemd start of qmail."""
    yield from _inetd(tree)
    yield from _xinetd(tree)
    yield from _systemd(tree)


def _lines(tree: Tree, path: str) -> list[str]:
    return (tree.read(path, MAX_TEXT) or b"").decode("utf-8", "surrogateescape").replace("\r", "").split("\n")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _listener(user: str, address: str, port: str) -> Step:
    return Step("inetd", "inetd", {"u": user}, arguments=(address, port))


# -- inetd: service type protocol wait user path argv ...


def _inetd(tree: Tree) -> Iterator[Command]:
    path = "/etc/inetd.conf"
    for number, line in enumerate(_lines(tree, path), 1):
        words = line.split()
        if line.startswith("#") or len(words) < 7 or not PROGRAMS.search(line):
            continue
        # The first word is the name that the program gets; that of tcpd is the program which it starts.
        through = chains.base(words[5]) == "tcpd" and "/" in words[6]
        argv = [words[5], *words[6 if through else 7 :]]
        host, _, service = words[0].rpartition(":")
        yield Command(words[0], path, number, argv, {}, _listener(words[4].partition(":")[0], host or "0", service))


# -- xinetd: service NAME { attribute = value ... }

_ATTRIBUTE = re.compile(r"\s*(\w+)\s*(\+?=)\s*(.*?)\s*$")


def _xinetd(tree: Tree) -> Iterator[Command]:
    names = [f"/etc/xinetd.d/{name}" for name in tree.names("/etc/xinetd.d")[:MAX_FILES] if "~" not in name]
    for path in ["/etc/xinetd.conf", *names]:
        service = ""
        found: dict[str, list[tuple[str, int]]] = {}
        for number, line in enumerate(_lines(tree, path), 1):
            begins = re.match(r"\s*service\s+(\S+)", line)
            attribute = _ATTRIBUTE.match(line)
            if begins:
                service, found = begins[1], {}
            elif service and attribute:
                found.setdefault(attribute[1], []).append((attribute[3], number))
            elif service and line.strip() == "}":
                command = _xinetd_command(path, service, found)
                if command is not None:
                    yield command
                service = ""


def _xinetd_command(path: str, service: str, found: dict[str, list[tuple[str, int]]]) -> Command | None:
    def last(name: str, default: str = "") -> str:
        return found[name][-1][0] if name in found else default

    argv = _words(f"{last('server')} {last('server_args')}")
    if not PROGRAMS.search(" ".join(argv)):
        return None
    # With NAMEINARGS the arguments begin with the name that the program gets.
    if "NAMEINARGS" in last("flags"):
        argv = argv[:1] + argv[2:]
    variables = {}
    for text, number in found.get("env", []):
        for word in _words(text):
            name, equals, value = word.partition("=")
            if equals:
                variables[name] = (value, path, number)
    file = path.rpartition("/")[2]
    listener = _listener(last("user", "root"), last("bind") or last("interface") or "0", last("port", service))
    down = last("disable", "no").lower() in ("yes", "on", "true", "1")
    return Command(
        service if file == "xinetd.conf" else file, path, found["server"][-1][1], argv, variables, listener, down
    )


# -- systemd: a service, and the socket that starts it

_SPECIFIERS = {"%%": "%", "%i": "0", "%I": "0"}


def _systemd(tree: Tree) -> Iterator[Command]:
    seen: set[str] = set()
    for folder in UNIT_FOLDERS:
        for name in tree.names(folder)[:MAX_FILES]:
            if not name.endswith(".service") or name in seen:
                continue
            seen.add(name)
            yield from _unit(tree, folder, name)


def _settings(tree: Tree, path: str) -> list[tuple[str, str, int]]:
    """Return (key, value, line) of a unit; lines that end in a backslash go on."""
    found, pending, begun = [], "", 0
    for number, line in enumerate(_lines(tree, path), 1):
        begun = begun if pending else number
        pending += line.rstrip("\\") + " " if line.endswith("\\") else line
        if line.endswith("\\"):
            continue
        key, equals, value = pending.partition("=")
        if equals and not key.startswith(("#", ";")):
            found.append((key.strip(), value.strip(), begun))
        pending = ""
    return found


def _unit(tree: Tree, folder: str, name: str) -> Iterator[Command]:
    path = f"{folder}/{name}"
    found = _settings(tree, path)
    for drop in tree.names(f"{path}.d")[:50]:
        found += _settings(tree, f"{path}.d/{drop}")
    starts = [(value, line) for key, value, line in found if key == "ExecStart"]
    value, line = next(((value, line) for value, line in reversed(starts) if value), ("", 0))
    argv = _words(re.sub(r"%[%iI]", lambda one: _SPECIFIERS[one[0]], value.lstrip("-@+!:")))
    if not argv or not PROGRAMS.search(" ".join(argv)):
        return
    variables: dict[str, tuple[str, str, int]] = {}
    for key, text, number in found:
        if key == "EnvironmentFile":
            variables |= _environment_file(tree, text.lstrip("-"))
        elif key == "Environment":
            pairs = [word.partition("=") for word in _words(text)]
            variables |= {one: (value, path, number) for one, equals, value in pairs if equals}
    expanded = {name for word in argv for pair in _VARIABLE.findall(word) for name in pair if name}
    argv = [_expand(word, variables) for word in argv]
    user = next((value for key, value, _ in reversed(found) if key == "User"), "root")
    listener = _socket(tree, folder, name, user)
    if listener is None and user != "root":
        argv = ["setuidgid", user, *argv]
    yield Command(name, path, line, argv, variables, listener, expanded=expanded)


_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


def _expand(word: str, variables: dict[str, tuple[str, str, int]]) -> str:
    return _VARIABLE.sub(lambda one: variables.get(one[1] or one[2], ("", "", 0))[0], word)


def _environment_file(tree: Tree, path: str) -> dict[str, tuple[str, str, int]]:
    found = {}
    for number, line in enumerate(_lines(tree, path), 1):
        name, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"[A-Za-z_]\w*", name):
            found[name] = (" ".join(_words(value)), path, number)
    return found


def _socket(tree: Tree, folder: str, name: str, user: str) -> Step | None:
    """Return the socket that starts a unit, None where it opens its own."""
    path = f"{folder}/{re.sub('@?[.]service$', '.socket', name)}"
    for key, value, _ in _settings(tree, path):
        if key == "ListenStream":
            host, _, port = value.rpartition(":")
            return _listener(user, host or "::", port)
    return None


def host_rules(tree: Tree) -> Iterator[tuple[str, int, str]]:
    """Yield (variable, line, clients) of what hosts.allow sets for the programs of qmail.

    Source: hosts_options(5).
    """
    for number, line in enumerate(_lines(tree, "/etc/hosts.allow"), 1):
        daemons, _, rest = line.partition(":")
        if line.startswith("#") or not re.search(r"tcp-env|qmail|smtp", daemons):
            continue
        clients = rest.partition(":")[0].strip()
        for found in re.finditer(r":\s*setenv\s*=?\s*(\w+)", rest):
            yield found[1], number, clients
