"""Values that control files cannot have: numbers that are none, lines that do not parse, patterns that do not compile.

Each check gets a Control and returns (line, why) for what is wrong. Only the first FAULTS of a file are told.

Source: qmail-control(5), qmail-users(5) and the manual pages of the patches.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

from pluq.migrate.survey import Control

FAULTS = 5
MAX_PATTERNS = 20_000

Fault = tuple[int, str]

# Smallest and largest value of numbers.
NUMBERS = {
    "queuelifetime": (0, 1 << 31), "concurrencylocal": (0, 1000), "concurrencyremote": (0, 1000), "databytes": (0, 1 << 53),
    "timeoutconnect": (0, 1 << 31), "timeoutremote": (0, 1 << 31), "timeoutsmtpd": (0, 1 << 31),
    "concurrencyincoming": (0, 100_000), "softlimit": (0, 1 << 53), "spfbehavior": (0, 6), "maxrcpt": (0, 1 << 31),
    "brtlimit": (0, 1 << 31), "mfcheck": (0, 3), "bouncemaxbytes": (0, 1 << 53), "greetdelay": (-3600, 3600),
    "tarpitcount": (0, 1 << 31), "tarpitdelay": (0, 86_400), "maxrecipients": (0, 1 << 31), "srs_maxage": (0, 36_500),
    "srs_hashlength": (1, 64), "srs_hashmin": (1, 64), "srs_alwaysrewrite": (0, 1), "rejectnullsenders": (0, 1 << 31),
    "rejectrelaytest": (0, 1 << 31), "notlshosts_auto": (0, 1 << 31), "cachelifetime": (0, 1 << 31), "spfipv6": (0, 1),
    "timeoutread": (0, 1 << 31), "timeoutwrite": (0, 1 << 31), "bouncelifetime": (0, 1 << 31), "batvkeystale": (0, 36_500),
    "qregex": (0, 1), "maxhops": (0, 1 << 31),
}  # fmt: skip
NUMBER_VARIABLES = {
    "DATABYTES": (0, 1 << 53), "SPFBEHAVIOR": (0, 6), "MAXRCPT": (0, 1 << 31), "BRTLIMIT": (0, 1 << 31), "MFCHECK": (0, 3),
    "SMTPD_GREETDELAY": (0, 3600), "TARPITCOUNT": (0, 1 << 31), "MAXRECIPIENTS": (0, 1 << 31), "CHKUSER_RCPTLIMIT": (0, 1 << 31),
    "CHKUSER_WRONGRCPTLIMIT": (0, 1 << 31), "CHKUSER_MBXQUOTA": (0, 1 << 31), "VALIDRCPTTO_LIMIT": (0, 1 << 31),
    "CACHELIFETIME": (0, 1 << 31), "QUEUE_COUNT": (1, 1000), "MAXPERIP": (0, 100_000), "MAXDAEMONS": (0, 100_000),
}  # fmt: skip
PATTERN_FILES = [
    "badhelo",
    "badhelonorelay",
    "badmailfrom",
    "badmailfromnorelay",
    "badrcptto",
    "badrcpttonorelay",
    "badmailto",
    "badmailtonorelay",
]
_CLASSES = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s", "blank": " \\t",
    "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9a-fA-F", "cntrl": r"\x00-\x1f", "print": " -~", "graph": "!-~",
}  # fmt: skip
# A group that repeats, and holds something that repeats or alternatives that can overlap.
RISKY = re.compile(r"\([^()]*([+*}]|\|)[^()]*\)([+*]|\{[0-9]+,)")


def number_fault(text: str, low: int, high: int) -> str:
    """Return why a text is not a number in these bounds, "" if it is one."""
    text = text.strip()
    if not re.fullmatch(r"-?[0-9]{1,30}", text):
        return f"{text[:40]!r} is not a number"
    found = int(text)
    return "" if low <= found <= high else f"{text[:40]} is not between {low} and {high}"


def _number(name: str) -> Callable[[Control], list[Fault]]:
    def check(control: Control) -> list[Fault]:
        why = number_fault(control.line.partition("#")[0], *NUMBERS[name])
        return [(1, why)] if why else []

    return check


def virtualdomains(control: Control) -> list[Fault]:
    found = []
    for number, line in control.lines:
        if ":" not in line:
            found.append((number, "no colon between the domain and its user"))
        elif line == ":":
            found.append((number, "neither a domain nor a user"))
    return found


def smtproutes(control: Control) -> list[Fault]:
    found = []
    for number, line in control.lines:
        domain, colon, relay = line.partition(":")
        if not colon:
            found.append((number, "no colon between the domain and its relay"))
            continue
        host = relay.split("|")[0].split()[0] if relay.split("|")[0].split() else ""
        port = re.sub(r"^\[[^\]]*\]|^[^:]*", "", host).lstrip(":").split(":")[0]
        if port and not (port.isdecimal() and 0 < int(port[:9]) < 65536):
            found.append((number, f"the port of {domain or 'all others'} is no port"))
    return found


def patterns(control: Control) -> list[Fault]:
    """Lines of the regular expression lists."""
    found = []
    for number, line in islice(control.lines, MAX_PATTERNS):
        try:
            re.compile(posix(line.removeprefix("!")))
        except (re.error, RecursionError, OverflowError):
            found.append((number, "not a regular expression"))
            if len(found) >= FAULTS:
                break
    return found


def posix(pattern: str) -> str:
    """Return an extended regular expression in the words of Python's."""
    return re.sub(r"\[:(\w+):\]", lambda found: _CLASSES.get(found[1], found[0]), pattern)


def risky(control: Control) -> list[int]:
    """Return the lines whose patterns can take exponential time."""
    return [number for number, line in islice(control.lines, MAX_PATTERNS) if len(line) < 1000 and RISKY.search(line)][
        :FAULTS
    ]


def taps(control: Control) -> list[Fault]:
    return [(number, "not TYPE:PATTERN:ADDRESS") for number, line in control.lines if line.count(":") < 1]


def separator(control: Control) -> list[Fault]:
    return [] if control.line in ("", "-", "+", "=") else [(1, "neither -, + nor =")]


def addresses(control: Control) -> list[Fault]:
    shape = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9.]+)?|\[?[0-9A-Fa-f:]+\]?(/[0-9]+)?")
    return [(number, "not an IP address") for number, line in control.lines if not shape.fullmatch(line.strip())]


def hostname(control: Control) -> list[Fault]:
    if not control.line:
        return [(1, "it is empty")]
    return [] if re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", control.line) else [(1, "not a host name")]


def greeting(control: Control) -> list[Fault]:
    return [(1, "a NUL byte or bytes that are not UTF-8")] if re.search(r"[\0\ud800-\udfff]", control.line) else []


def assign_faults(text: str) -> list[Fault]:
    """Lines of users/assign: seven fields and a colon, and at the end a dot."""
    lines = text.split("\n")
    end = next((number for number, line in enumerate(lines, 1) if line.startswith(".")), None)
    found = []
    for number, line in enumerate(lines[: end - 1 if end else len(lines)], 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.rstrip("\r").split(":")
        if line[0] not in "=+" or len(fields) < 8 or not (fields[2].isdecimal() and fields[3].isdecimal()):
            found.append((number, "not =ADDRESS:USER:UID:GID:HOME:DASH:EXTENSION: or the same with +"))
    if end is None:
        found.append((len(lines), "the last line is not a dot, so qmail-newu refuses the file"))
    return found


CHECKS: dict[str, Callable[[Control], list[Fault]]] = {
    **{name: _number(name) for name in NUMBERS},
    "virtualdomains": virtualdomains,
    "smtproutes": smtproutes,
    "taps": taps,
    "srs_separator": separator,
    "outgoingip": addresses,
    "moreipme": addresses,
    "notipme": addresses,
    "me": hostname,
    "helohost": hostname,
    "smtpgreeting": greeting,
}


def faults(control: Control, regular_expressions: bool) -> list[Fault]:
    """Return what is wrong with a control file, the first few."""
    if not control.usable:
        return []
    if control.name in PATTERN_FILES:
        return patterns(control)[:FAULTS] if regular_expressions else []
    check = CHECKS.get(control.name)
    return check(control)[:FAULTS] if check else []
