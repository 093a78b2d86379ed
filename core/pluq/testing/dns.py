"""A DNS server for tests, with faults.

    with FakeDns({"example.org": [("MX", (10, "mx.example.org"))], "mx.example.org": [("A", "192.0.2.1")]}) as server:
        resolver = Resolver([server.address])

A zone is a dict: name -> list of (type, value). Types: A, AAAA, CNAME, NS, PTR (text), MX (preference, host), TXT (text, bytes
or a list of them), TLSA (usage, selector, matching, bytes). CNAMEs are followed within the zone. Names that are not in it do
not exist; a name with other types only, or above others, has no data. Answers that do not fit the client's UDP payload are
truncated; TCP has them whole. Instead of a list a name may have a `Fault`, or a list may begin with one.

It serves UDP and TCP on one port of 127.0.0.1 from a thread, so that programs under test can ask it as well (give them
PLUQ_DNS_SERVER=server.text). `queries` is the log: (name, type, "udp" or "tcp").
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from types import TracebackType
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from pluq.testing import clock


class Fault(Enum):
    """What a server can do wrong."""

    TIMEOUT = auto()  # no answer at all
    SERVFAIL = auto()
    REFUSED = auto()
    TRUNCATED = auto()  # TC over UDP, the answer over TCP
    TRUNCATED_NO_TCP = auto()  # TC over UDP, TCP closes without an answer
    GARBAGE = auto()  # bytes that are no DNS message
    WRONG_ID = auto()  # another query's number
    WRONG_QUESTION = auto()  # an answer to another question
    LIES_FIRST = auto()  # forged answers with a wrong number and question come before the real one
    FOREIGN_RECORDS = auto()  # records of names that were not asked for
    NO_EDNS = auto()  # FORMERR for a query with EDNS


Records = Sequence[Any]
Zone = Mapping[str, "Records | Fault"]


class FakeDns:
    """The server. `zone` may be changed while it runs. `ttl` is that of every record, `authentic` sets the AD bit but for `insecure` names."""

    def __init__(self, zone: Zone | None = None, ttl: int = 60, authentic: bool = False) -> None:
        self.zone: dict[str, Records | Fault] = {
            name.lower().rstrip("."): value for name, value in (zone or {}).items()
        }
        self.ttl = ttl
        self.authentic = authentic
        self.insecure: set[str] = set()
        self.queries: list[tuple[str, str, str]] = []
        self._udp, self._tcp = same_port()
        self.address: tuple[str, int] = self._udp.getsockname()
        self.text = f"{self.address[0]}:{self.address[1]}"
        self._working = {self._udp: False, self._tcp: False}
        self._threads = [
            threading.Thread(target=self._serve, args=pair, daemon=True)
            for pair in ((self._udp, self._answer_udp), (self._tcp, self._answer_tcp))
        ]

    def __enter__(self) -> FakeDns:
        for thread in self._threads:
            thread.start()
        clock.holders.append(self.is_at_work)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clock.holders.remove(self.is_at_work)
        self._closing = True
        self._udp.sendto(b"", self.address)  # wakes the threads up
        socket.create_connection(self.address).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    _closing = False

    def is_at_work(self) -> bool:
        """Say whether a question has come that has not been dealt with."""
        return any(self._working.values()) or bool(select.select([self._udp, self._tcp], [], [], 0)[0])

    def _serve(self, sock: socket.socket, answer: Callable[[], None]) -> None:
        while not self._closing:
            select.select([sock], [], [])
            self._working[sock] = True
            with contextlib.suppress(ConnectionError):  # the client has gone
                answer()
            self._working[sock] = False

    def _answer_udp(self) -> None:
        wire, client = self._udp.recvfrom(65535)
        for answer in self._answers(wire, "udp"):
            self._udp.sendto(answer, client)

    def _answer_tcp(self) -> None:
        connection, _ = self._tcp.accept()
        with connection:
            head = connection.recv(2, socket.MSG_WAITALL)
            if len(head) < 2:
                return
            wire = connection.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
            for answer in self._answers(wire, "tcp"):
                connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answers(self, wire: bytes, protocol: str) -> list[bytes]:
        """Return the datagrams with which one query is answered."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return []
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.queries.append((name, dns.rdatatype.to_text(question.rdtype), protocol))
        fault = self._fault(name)
        response = self._response(query, name, fault)
        if fault in _RAW:
            return _RAW[fault](response, protocol)
        limit = query.payload if query.edns >= 0 else 512
        answer = response.to_wire(max_size=65535)
        if protocol == "udp" and (fault is Fault.TRUNCATED or len(answer) > max(512, limit)):
            return [_truncated(response)]
        return [answer]

    def _fault(self, name: str) -> Fault | None:
        here = self.zone.get(name, ())
        if isinstance(here, Fault):
            return here
        return here[0] if here and isinstance(here[0], Fault) else None

    def _response(self, query: dns.message.Message, name: str, fault: Fault | None) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        if fault is Fault.NO_EDNS and query.edns >= 0:
            response = dns.message.make_response(query)
            response.use_edns(-1)
            response.set_rcode(dns.rcode.FORMERR)
            return response
        if self.authentic and name not in self.insecure:
            response.flags |= dns.flags.AD
        rdtype = query.question[0].rdtype
        if fault in (Fault.SERVFAIL, Fault.REFUSED):
            response.set_rcode(dns.rcode.SERVFAIL if fault is Fault.SERVFAIL else dns.rcode.REFUSED)
            return response
        self._fill(response, name, rdtype)
        if fault is Fault.FOREIGN_RECORDS:
            foreign = "elsewhere.test."
            response.answer = [dns.rrset.from_text(foreign, self.ttl, "IN", "A", "192.0.2.66"), *response.answer]
        return response

    def _fill(self, response: dns.message.Message, name: str, rdtype: dns.rdatatype.RdataType) -> None:
        """Put the records of a name in, following CNAMEs inside the zone as a recursive server does."""
        for _ in range(20):
            here = self.zone.get(name)
            if here is None:
                exists = any(other.endswith("." + name) for other in self.zone)
                response.set_rcode(dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
                return
            if isinstance(here, Fault):
                return
            records = [one for one in here if not isinstance(one, Fault)]
            wanted = [value for kind, value in records if dns.rdatatype.from_text(kind) == rdtype]
            alias = [value for kind, value in records if kind == "CNAME"]
            kind = dns.rdatatype.to_text(rdtype) if wanted or not alias else "CNAME"
            values = wanted or alias[:1]
            if values:
                rdatas = [_rdata(kind, value) for value in values]
                response.answer.append(dns.rrset.from_rdata_list(dns.name.from_text(name), self.ttl, rdatas))
            if wanted or not alias:
                return
            name = alias[0].lower().rstrip(".")


def same_port() -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a TCP socket bound to one port of 127.0.0.1: one that is free for both."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            continue
        return udp, tcp


def _rdata(kind: str, value: Any) -> dns.rdata.Rdata:
    """Return a zone value as a record. TLSA is taken as it comes: dnspython refuses malformed ones, which exist."""
    if kind == "TLSA":
        return dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.TLSA, bytes(value[:3]) + value[3])
    return dns.rdata.from_text("IN", kind, _text(kind, value))


def _text(kind: str, value: Any) -> str:
    """Return a zone value in the presentation format."""
    if kind == "TXT":
        return " ".join(_quoted(one) for one in ([value] if isinstance(value, (str, bytes)) else value))
    if kind == "MX":
        return f"{value[0]} {str(value[1]).rstrip('.')}."
    return f"{value.rstrip('.')}." if kind in ("CNAME", "NS", "PTR") else str(value)


def _quoted(value: str | bytes) -> str:
    """Return quoted strings of at most 255 octets, every octet escaped."""
    data = value.encode("latin-1") if isinstance(value, str) else value
    pieces = [data[at : at + 255] for at in range(0, len(data), 255)] or [b""]
    return " ".join('"' + "".join(f"\\{octet:03}" for octet in piece) + '"' for piece in pieces)


def _truncated(response: dns.message.Message) -> bytes:
    response.answer = []
    response.flags |= dns.flags.TC
    return response.to_wire()


def _with_id(wire: bytes, change: int) -> bytes:
    return struct.pack("!H", int.from_bytes(wire[:2], "big") ^ change) + wire[2:]


def _other_question(response: dns.message.Message) -> bytes:
    other = dns.message.make_query("other.test", "A")
    other.id = response.id
    forged = dns.message.make_response(other)
    forged.answer = [dns.rrset.from_text("other.test.", 60, "IN", "A", "192.0.2.66")]
    return forged.to_wire()


def _lies_first(response: dns.message.Message, _: str) -> list[bytes]:
    wire = response.to_wire()
    return [b"", b"\0", _with_id(wire, 1), _other_question(response), wire[:2], wire]


# Faults that are about the bytes: from the honest response and the protocol to what is sent.
_RAW: Mapping[Fault | None, Callable[[dns.message.Message, str], list[bytes]]] = {
    Fault.TIMEOUT: lambda response, protocol: [],
    Fault.GARBAGE: lambda response, protocol: [response.to_wire()[:12] + b"\xff" * 40, b"\xc0" * 30],
    Fault.WRONG_ID: lambda response, protocol: [_with_id(response.to_wire(), 0x5555)],
    Fault.WRONG_QUESTION: lambda response, protocol: [_other_question(response)],
    Fault.LIES_FIRST: _lies_first,
    Fault.TRUNCATED_NO_TCP: lambda response, protocol: [_truncated(response)] if protocol == "udp" else [],
}
