"""DNS messages: a query as bytes, an answer as values. No I/O.

An answer is read with suspicion: only records of the name that was asked count, or of the names that CNAMEs lead to from
there, at most MAX_ALIASES of them. What else a server puts in is ignored.

Source: RFC 1035 section 4; RFC 6891 (EDNS); RFC 2308 (negative answers); RFC 6840 section 5.7 (the AD bit in a query).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from pluq.errors import PermanentFailure, ProtocolError, TemporaryFailure

# A payload that passes every path unfragmented (DNS flag day 2020).
UDP_PAYLOAD = 1232
MAX_ALIASES = 16

# A cached answer is forgotten after an hour at the latest, so that a mended zone is seen the same day; a negative one after
# five minutes, because somebody may be waiting for it.
MAX_TTL = 3600
MAX_NEGATIVE_TTL = 300

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "TLSA": 52}

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP = range(5)

# A name that looks the same in every notation; and, in a response, a pointer to the question's.
_PLAIN_NAME = re.compile(rb"[a-z0-9_.-]+")
_SAME_NAME = b"\xc0\x0c"

_RD_AND_AD = 0x0120
_EDNS = struct.pack("!BHHIH", 0, 41, UDP_PAYLOAD, 0, 0)


class Status(Enum):
    """What a server that answered said."""

    FOUND = "found"
    NO_DATA = "the name has no such record"
    NO_NAME = "the name does not exist"


class Mx(NamedTuple):
    """One mail exchanger. `host` b"" is the null MX of RFC 7505."""

    preference: int
    host: bytes


class Tlsa(NamedTuple):
    """One TLSA record of RFC 6698; `data` is the raw hash or certificate."""

    usage: int
    selector: int
    matching: int
    data: bytes


# Stands for TLSA records that are malformed: they prove nothing, but they are there (RFC 7672 section 2.2: TLS is required).
UNREADABLE = Tlsa(255, 255, 255, b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known about one name and type.

    `records` are str for A and AAAA, bytes for names and TXT (its strings joined), Mx, Tlsa, and dnspython's rdata for other
    types, in the order of the server. `canonical` is the name that CNAMEs led to. `ttl` is in seconds, within our bounds.
    `authentic` is the AD bit: worth as much as the path to the resolver.
    """

    name: bytes
    rdtype: str
    status: Status
    records: tuple[Any, ...] = ()
    canonical: bytes = b""
    ttl: int = 0
    authentic: bool = False

    def require(self) -> tuple[Any, ...]:
        """Return the records. Raises NoRecords where there are none."""
        if self.status is not Status.FOUND:
            raise NoRecords(self)
        return self.records


class NoRecords(PermanentFailure):
    """The name does not exist, or has no record of the type that was asked for."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{printable(answer.name)} {answer.rdtype}: {answer.status.value}", "5.1.2")
        self.answer = answer

    @property
    def exists(self) -> bool:
        """Whether the name exists, with records of other types."""
        return self.answer.status is Status.NO_DATA


class ServerRefuses(TemporaryFailure):
    """A server answered that it cannot or will not: another one may."""

    def __init__(self, text: str, rcode: int) -> None:
        super().__init__(text, "4.4.3")
        self.rcode = rcode


def printable(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace") or "."


def normal_name(name: bytes | str) -> bytes:
    """Return the key of a name: bytes, lower case, without the final dot."""
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    return raw.lower().removesuffix(b".")


def encode_name(name: bytes) -> bytes:
    """Return a name in wire form. Raises ProtocolError for a label or name that is empty or too long."""
    if not name:
        return b"\0"
    wire = b"".join(bytes((len(label),)) + label for label in name.split(b".") if 0 < len(label) < 64) + b"\0"
    if len(wire) != len(name) + 2 or len(wire) > 255:  # a label was left out, or all of them are too long
        raise ProtocolError("not a domain name", blame="local")
    return wire


def encode_question(name: bytes, rdtype: str) -> bytes:
    """Return the question section. Raises ProtocolError as `encode_name`."""
    return encode_name(name) + struct.pack("!HH", TYPES[rdtype], 1)


def encode_query(number: int, question: bytes, edns: bool) -> bytes:
    """Return a recursive query."""
    header = struct.pack("!HHHHHH", number, _RD_AND_AD, 1, 0, 0, 1 if edns else 0)
    return header + question + _EDNS if edns else header + question


def answers_question(wire: bytes, question: bytes) -> bool:
    """Return whether a datagram is a response to this question; the number was checked before.

    A server that does not know EDNS may answer FORMERR with the header alone.
    """
    if len(wire) < 12 or not wire[2] & 0x80 or wire[2] & 0x78:
        return False
    if wire[4:6] == b"\0\0":
        return wire[3] & 15 in (FORMERR, NOTIMP) and len(wire) == 12
    return wire[4:6] == b"\0\1" and wire[12 : 12 + len(question)].lower() == question.lower()


def is_truncated(wire: bytes) -> bool:
    return bool(wire[2] & 0x02)


def decode_answer(wire: bytes, name: bytes, rdtype: str) -> Answer:
    """Return what a response says about a name.

    Raises ServerRefuses for a failure that the server admits, ProtocolError for bytes that are no DNS message.
    """
    rcode = wire[3] & 15
    if rcode not in (NOERROR, NXDOMAIN):
        raise ServerRefuses(f"DNS server failed with code {rcode} for {printable(name)} {rdtype}", rcode)
    authentic = bool(wire[3] & 0x20)
    usual = usual_records(wire, name, rdtype)
    if usual is not None:
        records, ttl = usual
        return Answer(name, rdtype, Status.FOUND, records, name, ttl, authentic)
    import dns.message

    try:
        skips = rdtype == "TLSA"  # one record that dnspython does not like must not hide the others
        message = dns.message.from_wire(needed_sections(wire), ignore_trailing=True, continue_on_error=skips)
        canonical, ttl, rrset = _follow(message, name, rdtype)
        records = tuple(_value(rdata) for rdata in rrset) if rrset is not None else ()
        if skips and message.errors:
            records += (UNREADABLE,)
    except Exception as error:  # dnspython has its own errors and lets others through: all mean garbage
        raise ProtocolError(f"bad DNS answer: {error}") from error
    if records:
        return Answer(name, rdtype, Status.FOUND, records, canonical, min(ttl, MAX_TTL), authentic)
    # Aliases that lead to a name without such a record: qmail calls that "no data" whatever the code, unless it is NXDOMAIN.
    status = Status.NO_NAME if rcode == NXDOMAIN else Status.NO_DATA
    return Answer(name, rdtype, status, (), canonical, _negative_ttl(message), authentic)


def usual_records(wire: bytes, name: bytes, rdtype: str) -> tuple[tuple[Any, ...], int] | None:
    """Return the records and their time to live where a response has A or TXT records of the very name that was asked, and nothing else.

    None for any other: dnspython reads that. For these, which are most of what mail asks, it takes ten times as long.
    """
    if rdtype not in ("A", "TXT") or not _PLAIN_NAME.fullmatch(name):
        return None
    question = encode_question(name, rdtype)
    if not answers_question(wire, question):
        return None
    found: dict[bytes, Any] = {}  # one that is there twice counts once
    at, ttl = 12 + len(question), MAX_TTL
    for _ in range(int.from_bytes(wire[6:8], "big")):
        if wire[at : at + 6] != _SAME_NAME + question[-4:] or len(wire) < at + 12:
            return None
        seconds, size = struct.unpack_from("!IH", wire, at + 6)
        at += 12 + size
        rdata = wire[at - size : at]
        value = _address(rdata) if rdtype == "A" else _joined_strings(rdata)
        if len(rdata) != size or value is None or seconds >> 31:
            return None
        found[rdata] = value
        ttl = min(ttl, seconds)
    return (tuple(found.values()), ttl) if found else None


def _address(rdata: bytes) -> str | None:
    return ".".join(map(str, rdata)) if len(rdata) == 4 else None


def _joined_strings(rdata: bytes) -> bytes | None:
    """Return the strings of a TXT record as one, None for what is no such record."""
    strings, at = [], 0
    while at < len(rdata):
        end = at + 1 + rdata[at]
        strings.append(rdata[at + 1 : end])
        at = end
    return b"".join(strings) if rdata and at == len(rdata) else None


def needed_sections(wire: bytes) -> bytes:
    """Return a response whose header counts only what is read: answers, or the authority section where there is no answer.

    Decoding is most of the cost of a lookup, and servers add much that nobody asked for.
    """
    answers, authority = wire[6:8], wire[8:10]
    return wire[:8] + (b"\0\0" if answers != b"\0\0" else authority) + b"\0\0" + wire[12:]


def _follow(message: Any, name: bytes, rdtype: str) -> tuple[bytes, int, Any]:
    """Follow CNAMEs within the answer section: (last name, smallest ttl on the way, the rrset or None)."""
    import dns.name

    wanted = TYPES[rdtype]
    sets = {(rrset.name, int(rrset.rdtype)): rrset for rrset in message.answer}
    here = dns.name.Name([*(name.split(b".") if name else []), b""])
    ttl = MAX_TTL
    passed: set[dns.name.Name] = set()
    for _ in range(MAX_ALIASES):
        found = sets.get((here, wanted))
        if found is not None:
            return _name_bytes(here), min(ttl, found.ttl), found
        alias = sets.get((here, TYPES["CNAME"]))
        if alias is None or alias[0].target in passed:
            break
        passed.add(here)
        ttl = min(ttl, alias.ttl)
        here = alias[0].target
    return _name_bytes(here), ttl, None


def _negative_ttl(message: Any) -> int:
    """Return how long a "no" may be believed: the SOA's word (RFC 2308 section 5), 0 without one."""
    for rrset in message.authority:
        if int(rrset.rdtype) == TYPES["SOA"]:
            return int(min(rrset.ttl, rrset[0].minimum, MAX_NEGATIVE_TTL))
    return 0


def _name_bytes(name: Any) -> bytes:
    """Return a dnspython name as lower-case bytes without the final dot; odd bytes as \\DDD."""
    text: str = name.to_text(omit_final_dot=True)
    return b"" if text in (".", "@") else text.lower().encode("ascii")


def _value(rdata: Any) -> Any:
    """Return the value of one record in our own terms."""
    match int(rdata.rdtype):
        case 1 | 28:
            return rdata.address
        case 15:
            return Mx(rdata.preference, _name_bytes(rdata.exchange))
        case 16:
            return b"".join(rdata.strings)
        case 2 | 5 | 12:
            return _name_bytes(rdata.target)
        case 52:
            return Tlsa(rdata.usage, rdata.selector, rdata.mtype, rdata.cert)
        case _:
            return rdata
