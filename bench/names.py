"""A name server for the bench: answers from a table, as fast as Python can, so that both sides ask the same one.

    python -m bench.names ADDRESS PORT TABLE       TABLE: lines of NAME TYPE VALUE

Everything else does not exist. Answers are kept in wire form: a query that was seen costs a look into a dictionary.
"""

from __future__ import annotations

import socket
import sys

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL = 300


def main() -> None:
    address, port, path = sys.argv[1:]
    table: dict[tuple[str, str], list[str]] = {}
    names = set()
    with open(path) as file:
        for line in file:
            name, kind, value = line.rstrip("\n").split(" ", 2)
            table.setdefault((name, kind), []).append(value)
            names.add(name)
    known: dict[bytes, bytes] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, int(port)))
        while True:
            query, client = sock.recvfrom(4096)
            answer = known.get(query[2:])
            if answer is None:
                answer = known[query[2:]] = respond(query, table, names)[2:]
            sock.sendto(query[:2] + answer, client)


def respond(wire: bytes, table: dict[tuple[str, str], list[str]], names: set[str]) -> bytes:
    query = dns.message.from_wire(wire)
    response = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
    values = table.get((name, kind))
    if values:
        response.answer.append(dns.rrset.from_text_list(question.name, TTL, "IN", kind, values))
    elif name not in names:
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


if __name__ == "__main__":
    main()
