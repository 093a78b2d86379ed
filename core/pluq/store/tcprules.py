r"""tcprules: which client may connect, and with which variables.

Text, one rule a line; compiled, a cdb of the same keys:

    127.0.0.1:allow,RELAYCLIENT=""            key 127.0.0.1    data +RELAYCLIENT=\0
    10.1-3.:deny                              keys 10.1. 10.2. 10.3.    data D\0
    =.example.net:allow,DATABYTES=/5000000/   key =.example.net    data +DATABYTES=5000000\0

The first rule found counts, asked for in this order: info@ip, info@=host, ip, =host, shorter and shorter prefixes of the ip that
end with a dot, shorter and shorter suffixes of the host that start with a dot, =, the empty address. No rule at all allows.

An IPv6 address stands as it is written in TCPREMOTEIP; its prefixes end with a colon. (tcprules itself compiles no such line.)

Source: tcprules(1), tcpserver(1); rules.c and tcprules.c of ucspi-tcp.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pluq.errors import ConfigError
from pluq.store.cdb import Cdb
from pluq.store.control import leading_int, read_file

Lookup = Callable[[bytes], bytes | None]

_RULE = re.compile(rb"(.*?):(allow|deny)(?=,|$)(.*)", re.DOTALL)
_VARIABLE = re.compile(rb",([^=]*)=(.)(.*?)\2", re.DOTALL)
_RANGE = re.compile(rb"((?:[^-]*\.)?)([0-9]*)-([0-9]*)((?:\..*)?)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Instructions:
    """What a rule says. `environment` holds its variables in order; a later one of the same name wins."""

    deny: bool = False
    environment: tuple[tuple[str, str], ...] = ()


ALLOW = Instructions()


def decode(data: bytes) -> Instructions:
    """Return the instructions in the data of a compiled rule. What is not understood is left out, as tcpserver does."""
    deny = False
    environment = []
    for item in data.split(b"\0")[:-1]:
        if item.startswith(b"D"):
            deny = True
        elif item.startswith(b"+") and b"=" in item:
            name, _, value = item[1:].partition(b"=")
            environment.append((os.fsdecode(name), os.fsdecode(value)))
    return Instructions(deny, tuple(environment))


def candidates(ip: bytes, host: bytes | None, info: bytes | None) -> Iterator[bytes]:
    """Yield the addresses to look for, in tcpserver's order."""
    if info is not None:
        yield info + b"@" + ip
        if host is not None:
            yield info + b"@=" + host
    yield ip
    if host is not None:
        yield b"=" + host
    for end in range(len(ip), 0, -1):
        if ip[end - 1] in b".:":
            yield ip[:end]
    if host is not None:
        for start in range(len(host)):
            if host[start] == 0x2E:
                yield b"=" + host[start:]
        yield b"="
    yield b""


def find_rule(
    lookup: Lookup, ip: bytes, host: bytes | None = None, info: bytes | None = None
) -> tuple[bytes, bytes] | None:
    """Return address and data of the first rule for this client, None where there is none."""
    for address in candidates(ip, host, info):
        data = lookup(address)
        if data is not None:
            return address, data
    return None


def find(lookup: Lookup, ip: bytes, host: bytes | None = None, info: bytes | None = None) -> Instructions:
    """Return the instructions of the first rule for this client, ALLOW where there is none."""
    rule = find_rule(lookup, ip, host, info)
    return ALLOW if rule is None else decode(rule[1])


def compile_instructions(verdict: bytes, variables: bytes) -> bytes | None:
    """Return the data of a rule, None if the variables cannot be parsed."""
    data = b"D\0" if verdict == b"deny" else b""
    position = 0
    while position < len(variables):
        found = _VARIABLE.match(variables, position)
        if found is None:
            return None
        data += b"+%s=%s\0" % (found[1], found[3])
        position = found.end()
    return data


def expand(address: bytes) -> list[bytes] | None:
    """Return the addresses that a range stands for, None for a range of other things; any other address is itself."""
    if b"-" not in address or b"=" in address or b"@" in address:
        return [address]
    found = _RANGE.fullmatch(address)
    if found is None:
        return None
    first, last = leading_int(found[2]) or 0, min(leading_int(found[3]) or 0, 255)
    return [b"%s%d%s" % (found[1], number, found[4]) for number in range(first, last + 1)]


def parse_rules(text: bytes, path: str = "tcp.smtp") -> list[tuple[bytes, bytes]]:
    """Return the compiled records of rules in text form. Raises ConfigError naming the line that cannot be parsed."""
    return [(address, data) for _, address, data in numbered_rules(text, path)]


def numbered_rules(text: bytes, path: str) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the compiled records, each with the line that it comes from. Raises ConfigError as `parse_rules`."""
    for number, raw in enumerate(text.split(b"\n"), 1):
        line = raw.rstrip(b" \t")
        if not line or line.startswith(b"#") or b":" not in line:
            continue
        rule = _RULE.fullmatch(line)
        data = None if rule is None else compile_instructions(rule[2], rule[3])
        addresses = None if rule is None else expand(rule[1])
        if data is None or addresses is None:
            raise ConfigError(path, f"cannot parse this rule: {line.decode('utf-8', 'replace')}", number)
        for address in addresses:
            yield number, address, data


def rules_from_text(path: str) -> Lookup | None:
    """Return the rules in a text file, None where there is no file."""
    text = read_file(path)
    if text is None:
        return None
    first: dict[bytes, bytes] = {}
    for address, data in parse_rules(text, path):
        first.setdefault(address, data)
    return first.get


def rules_from_cdb(path: str) -> Lookup | None:
    """Return the rules in a cdb made by tcprules, None where there is no file."""
    try:
        return Cdb(path).get
    except FileNotFoundError:
        return None
