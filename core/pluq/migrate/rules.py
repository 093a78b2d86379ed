"""tcprules of a site, line by line: what each says, and what tcprules itself would refuse or read as something else.

A compiled file is only read to compare it with its text, or where there is no text.

Source: tcprules(1); pluq.store.tcprules, which has the format.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field

from pluq.errors import ConfigError
from pluq.migrate.tree import FILE, Tree
from pluq.store import tcprules
from pluq.store.cdb import POINTERS, Cdb

_SHAPE = re.compile(rb"[0-9.\-]*|=[^ \t]*|[^ \t@]*@=?[^ \t]*|[0-9A-Fa-f:.]+(/[0-9]+)?|[0-9.]+/[0-9]+")
WIDE = 65_536
MAX_RECORDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its address as written, whether it denies, its variables, and its line (0 in a compiled file)."""

    address: str
    deny: bool
    variables: tuple[tuple[str, str], ...]
    line: int

    def get(self, name: str) -> str | None:
        return next((value for key, value in reversed(self.variables) if key == name), None)

    @property
    def addresses(self) -> int:
        """How many public IPv4 addresses it is for, for one that is a prefix; 0 for all others."""
        parts = [part for part in self.address.split(".") if part]
        if not self.address.endswith(".") or not parts or len(parts) > 3:
            return 0
        total = 256 ** (4 - len(parts))
        firsts = []
        for part in parts:
            low, _, high = part.partition("-")
            if not low.isdecimal() or (high and not high.isdecimal()):
                return 0
            firsts.append(min(int(low[:3]), 255))
            total *= max(int((high or low)[:3]) - int(low[:3]) + 1, 1)
        first = ipaddress.ip_address(".".join(map(str, [*firsts, 1, 1, 1][:4])))
        documentation = any(first in net for net in _DOCUMENTATION)
        return 0 if first.is_private and not documentation else total


_DOCUMENTATION = [ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]


@dataclass
class Rules:
    """The rules of a listener. `text` and `compiled` are paths of the site, "" where there is none."""

    text: str = ""
    compiled: str = ""
    rules: list[Rule] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    cdb_fault: str = ""
    stale: bool = False

    @property
    def default(self) -> Rule | None:
        """The rule for everybody else, as far as it can be read."""
        return next((rule for rule in self.rules if rule.address == ""), None)

    @property
    def source(self) -> str:
        return self.text or self.compiled

    def values(self, name: str) -> list[str]:
        return [value for rule in self.rules for key, value in rule.variables if key == name]


def parse_text(data: bytes) -> tuple[list[Rule], list[tuple[int, str]], dict[bytes, bytes]]:
    """Return the rules, the faults with their lines, and the records that tcprules would compile."""
    rules: list[Rule] = []
    faults: list[tuple[int, str]] = []
    records: dict[bytes, bytes] = {}
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.rstrip(b" \t\r")
        if not line or line.startswith(b"#"):
            continue
        why = fault_of(line)
        if why:
            faults.append((number, why))
        rule = _lenient(line, number)
        if rule is not None:
            rules.append(rule)
        try:
            for address, compiled in tcprules.parse_rules(line, "rules"):
                records.setdefault(address, compiled)
        except ConfigError:
            pass
    return rules, faults, records


def fault_of(line: bytes) -> str:
    """Return what is wrong with a line, "" for nothing."""
    if b":" not in line:
        return "no colon, so the line does nothing"
    address, _, instructions = line.partition(b":")
    if not re.match(rb"(allow|deny)(,|$)", instructions) and not re.search(rb":(allow|deny)(,|$)", line):
        return "neither allow nor deny stands after the colon"
    if b" " in address or b"\t" in address or not _SHAPE.fullmatch(address.rstrip(b":")):
        return "the address has a form that matches no client"
    if b":" not in address and re.fullmatch(rb"[0-9]+(\.[0-9]+){0,2}", address):
        return "an address without its last dot matches no client"
    try:
        tcprules.parse_rules(line, "rules")
    except ConfigError:
        return "the variables cannot be parsed"
    return ""


_LENIENT = re.compile(rb"\s*(?P<address>.*?)\s*:\s*(?P<verdict>allow|deny)\s*(?P<rest>,.*)?$", re.DOTALL)
_VARIABLE = re.compile(rb"\s*,\s*([A-Za-z0-9_]+)\s*=\s*(.)(.*?)(?:\2|$)", re.DOTALL)


def _lenient(line: bytes, number: int) -> Rule | None:
    """Return what a line was meant to say, for a warning about it as well."""
    found = _LENIENT.match(line)
    if found is None:
        return None
    variables = tuple(
        (one[1].decode("ascii"), one[3].decode("utf-8", "surrogateescape"))
        for one in _VARIABLE.finditer(found["rest"] or b"")
    )
    address = found["address"].decode("utf-8", "surrogateescape")
    return Rule(address, found["verdict"] == b"deny", variables, number)


def read_rules(tree: Tree, path: str) -> Rules:
    """Return the rules that a listener reads from `path`, with or without .cdb."""
    text = path.removesuffix(".cdb")
    compiled = tree.entry(f"{text}.cdb")
    data = tree.read(text)
    found = Rules(text if data is not None else "", tree.real_folder(f"{text}.cdb") if compiled.kind == FILE else "")
    records: dict[bytes, bytes] = {}
    if data is not None:
        found.text = tree.real_folder(text)
        found.rules, found.faults, records = parse_text(data)
    if compiled.kind == FILE:
        _compare(found, tree.host(compiled.real), records)
    return found


def cdb_fault(path: str) -> str:
    """Return why a file is no cdb, "" if it looks like one: all its tables and records lie inside of it."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(POINTERS.size)
        if len(head) < POINTERS.size:
            return "too short for a cdb"
        pointers = POINTERS.unpack(head)
        if any(
            not POINTERS.size <= at or at + 8 * slots > size
            for at, slots in zip(pointers[::2], pointers[1::2], strict=True)
        ):
            return "its tables lie outside of the file"
        for _ in zip(range(MAX_RECORDS), Cdb(path), strict=False):
            pass
    except OSError as error:
        return os.strerror(error.errno or 0)
    except ConfigError as error:
        return error.why
    return ""


def cdb_records(path: str) -> dict[bytes, bytes]:
    """Return the first record of each key. Raises ConfigError for what is no cdb."""
    records: dict[bytes, bytes] = {}
    for _, (key, value) in zip(range(MAX_RECORDS), Cdb(path), strict=False):
        records.setdefault(key, value)
    return records


def _compare(found: Rules, path: str, records: dict[bytes, bytes]) -> None:
    found.cdb_fault = cdb_fault(path)
    if found.cdb_fault:
        return
    compiled = cdb_records(path)
    if found.text:
        found.stale = compiled != records and not found.faults
        return
    for key, value in compiled.items():
        says = tcprules.decode(value)
        found.rules.append(Rule(key.decode("utf-8", "surrogateescape"), says.deny, says.environment, 0))
