r"""Canonical forms: what is signed in the place of a body and of header fields.

simple    as it is; empty lines at the end of the body do not count
relaxed   runs of blanks are one space, blanks at the end of a line nothing; a field's name is lower case, its value one line

Messages come in qmail's form (LF line ends) and in pieces of any size; the canonical form has CRLF. It is made by a few searches over a
whole piece, in time proportional to its length whatever is in it: 2 ms for a megabyte, where regular expressions take 40. What a
piece ends with, blanks and line ends, waits for the next one, as a count: a gigabyte of blanks takes no memory.

Source: RFC 6376 section 3.4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from pluq.hookspecs import HeaderField

NAMES = ("simple", "relaxed")

# How much is written of a long run of empty lines at a time.
RUN = 8192


def squeeze(text: bytes) -> bytes:
    """Return text with each run of blanks as one space, and none before a line end."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:  # each turn halves the longest run
        text = text.replace(b"  ", b" ")
    return text.replace(b" \n", b"\n")


class BodySum(NamedTuple):
    """SHA-256 of a body in canonical form, and the length of that form, all of it."""

    digest: bytes
    size: int


class BodyHash:
    """Makes a BodySum; no more than `limit` octets are hashed."""

    def __init__(self, name: str, limit: int | None = None) -> None:
        self.relaxed = name == "relaxed"
        self.limit = limit
        self._size = 0
        self._hash = hashlib.sha256()
        self._blanks = b" \t\n" if self.relaxed else b"\n"
        self._line_ends = 0  # seen at the end of what was fed, not yet hashed
        self._space = False  # after them came blanks

    def feed(self, piece: bytes) -> None:
        text = piece.rstrip(self._blanks)
        tail = piece[len(text) :]
        if text:
            self._take(text)
        self._hold(tail)

    def finish(self) -> BodySum:
        """Return the sum; the body is complete."""
        if self._size or not self.relaxed:
            self._update(b"\r\n")
        return BodySum(self._hash.digest(), self._size)

    def _take(self, text: bytes) -> None:
        """Hash what was held back, and a text that ends in neither blank nor line end."""
        if self.relaxed:
            if self._line_ends:
                text = squeeze(b"\n" + (b" " if self._space else b"") + text)
                self._line_ends -= 1
            else:
                text = squeeze(b" " + text if self._space else text)
        while self._line_ends:
            run = min(RUN, self._line_ends)
            self._line_ends -= run
            self._update(b"\r\n" * run)
        self._space = False
        self._update(text.replace(b"\n", b"\r\n"))

    def _hold(self, tail: bytes) -> None:
        ends = tail.count(b"\n")
        self._line_ends += ends
        if self.relaxed and tail:
            self._space = not tail.endswith(b"\n")

    def _update(self, data: bytes) -> None:
        if self.limit is None:
            self._hash.update(data)
        elif self._size < self.limit:
            self._hash.update(data[: self.limit - self._size])
        self._size += len(data)


BodyForm = tuple[str, int | None]
"""A form of the body and how much of it is hashed."""


def sum_body(pieces: Iterable[bytes], forms: Iterable[BodyForm]) -> dict[BodyForm, BodySum]:
    """Return the sum of a body for each form, in one pass."""
    hashes = {form: BodyHash(*form) for form in forms}
    for piece in pieces:
        for one in hashes.values():
            one.feed(piece)
    return {form: one.finish() for form, one in hashes.items()}


def simple_field(field: HeaderField) -> bytes:
    return field.raw.replace(b"\n", b"\r\n")


def relaxed_field(field: HeaderField) -> bytes:
    value = field.raw.partition(b":")[2].replace(b"\n", b"")
    return field.name + b":" + squeeze(value).strip(b" ") + b"\r\n"


FIELD: Mapping[str, Callable[[HeaderField], bytes]] = {"simple": simple_field, "relaxed": relaxed_field}


def chosen(fields: list[HeaderField], names: list[bytes]) -> Iterator[HeaderField]:
    """Yield the field that each name of an h= list stands for: the lowest not yet taken. One that is not there is nothing.

    Source: RFC 6376 section 5.4.2.
    """
    left: dict[bytes, list[HeaderField]] = {name: [] for name in names}
    for field in fields:
        if field.name in left:
            left[field.name].append(field)
    for name in names:
        if left[name]:
            yield left[name].pop()


def without_value(field: HeaderField) -> HeaderField:
    """Return a DKIM-Signature field with the value of b= taken out, and the line end that is not signed."""
    name, colon, rest = field.raw.removesuffix(b"\n").partition(b":")
    specs = rest.split(b";")
    for index, spec in enumerate(specs):
        tag, equals, _ = spec.partition(b"=")
        if equals and tag.strip(b" \t\r\n") == b"b":
            specs[index] = tag + equals
    return HeaderField(field.name, name + colon + b";".join(specs))


def header_input(fields: list[HeaderField], names: list[bytes], signature: HeaderField, name: str) -> bytes:
    """Return the octets that a signature signs: the chosen fields, then the signature without its value (RFC 6376 section 3.7)."""
    canonical = FIELD[name]
    return b"".join([canonical(field) for field in chosen(fields, names)]) + canonical(
        without_value(signature)
    ).removesuffix(b"\r\n")
