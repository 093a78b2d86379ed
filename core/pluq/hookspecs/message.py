"""One message on its way through the hooks.

The original is frozen: what the client sent, dots unstuffed, line ends LF, without our own trace fields. Hooks change a view:
fields put on top, changed or taken out, a body put in its place. `fields` and `open()` show the original; `get`, `get_all`, `text`,
`body`, `parsed` and `chunks` the message as it stands now.

    message.get("List-Id")                  the first value, as bytes, or None
    message.text("Subject")                 for people: words decoded, one line; "" without such a field
    message.set_field(b"Subject: " + ...)   in the place of the first one, the others go
    mail = message.parsed()                 the library's EmailMessage, for MIME; then message.replace(mail.as_bytes())

Small messages are bytes; beyond SPOOL_BYTES the original lies in an anonymous file, so that memory stays bounded. Field
positions are found once, in linear time, and only when somebody asks.

Source: RFC 5322 section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from pluq.errors import PluqError

if TYPE_CHECKING:
    from email.message import EmailMessage

SPOOL_BYTES = 65536
CHUNK_BYTES = 131072

# A header that is longer is not read into memory by hooks: 1 MiB holds thousands of fields.
MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One raw field: `raw` is all its lines with their LF, `name` the lower-case name, empty for what is no field."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, without the last line end; folded lines stay folded."""
        return self.raw.partition(b":")[2].strip(b" \t\n")


def split_fields(header: bytes) -> list[HeaderField]:
    """Return the fields of a header block, in order; a line that is no field is one without a name.

    For qmail and sendmail such a line ends the header. Mail readers go on behind it, so what stands there counts here: else a second
    From, or a result in our name, could hide from us and not from them.
    """
    fields: list[HeaderField] = []
    lines: list[bytes] = []
    for line in header.splitlines(keepends=True) if b"\r" not in header else _lf_lines(header):
        if lines and line[:1] in (b" ", b"\t"):
            lines.append(line)
            continue
        if lines:
            fields.append(_make_field(lines))
        lines = [line]
    if lines:
        fields.append(_make_field(lines))
    return fields


def _lf_lines(data: bytes) -> Iterator[bytes]:
    """Split at LF alone: a stray CR belongs to its line."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


def _make_field(lines: list[bytes]) -> HeaderField:
    raw = b"".join(lines)
    name, colon, _ = lines[0].partition(b":")
    return HeaderField(name.strip(b" \t").lower() if colon else b"", raw if raw.endswith(b"\n") else raw + b"\n")


def check_field(raw: bytes) -> bytes:
    """Return `raw` as a whole field with its last LF; raise PluqError where it would break the header."""
    if not isinstance(raw, bytes):
        raise TypeError(f"a header field is bytes, as b'X-Spam: yes'; not {raw!r}")
    whole = raw if raw.endswith(b"\n") else raw + b"\n"
    first, *rest = whole[:-1].split(b"\n")
    name = first.partition(b":")[0]
    if not name or len(name) == len(first) or any(octet <= 32 or octet >= 127 for octet in name):
        raise PluqError(f"not a header field: {first[:60]!r}")
    if b"\0" in whole or b"\r" in whole or any(line[:1] not in (b" ", b"\t") for line in rest):
        raise PluqError(f"header field would break the header: {first[:60]!r}")
    return whole


def _lower(name: bytes | str) -> bytes:
    return (name.encode("ascii", "replace") if isinstance(name, str) else name).lower()


@dataclass
class Message:
    """The message of one transaction or delivery. Names of fields are str or bytes, in any case; their values are bytes.

    `original` is the whole message as bytes, or an open file positioned anywhere; `size` its length in bytes.
    """

    original: bytes | BinaryIO
    size: int
    prepended: list[bytes] = field(default_factory=list)
    _removed: set[int] = field(default_factory=set)
    _changed: dict[int, bytes] = field(default_factory=dict)
    _appended: list[bytes] = field(default_factory=list)
    _body: bytes | None = None
    _header_size: int | None = None
    _fields: list[HeaderField] | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> Message:
        return cls(data, len(data))

    # -- reading

    def open(self) -> BinaryIO:
        """Return a reader of the frozen original, at its start. One reader at a time."""
        if isinstance(self.original, bytes):
            return BytesIO(self.original)
        self.original.seek(0)
        return self.original

    @property
    def header_size(self) -> int:
        """Bytes of the original's header, without the empty line that ends it."""
        if self._header_size is None:
            head = self.open().read(MAX_HEADER_BYTES)
            if head.startswith(b"\n"):
                self._header_size = 0
            else:
                end = head.find(b"\n\n")
                self._header_size = end + 1 if end >= 0 else len(head)
        return self._header_size

    @property
    def fields(self) -> list[HeaderField]:
        """The fields of the frozen original, in order."""
        if self._fields is None:
            size = self.header_size  # before open(): finding it moves the reader of a file
            self._fields = split_fields(self.open().read(size))
        return self._fields

    def get(self, name: bytes | str) -> bytes | None:
        """Return the value of the first field of that name, as the message stands now; None without one."""
        return next(iter(self.get_all(name)), None)

    def get_all(self, name: bytes | str) -> list[bytes]:
        """Return the values of every field of that name, as the message stands now. Folded lines stay folded."""
        wanted = _lower(name)
        return [one.value for one in self._fields_now() if one.name == wanted]

    def _fields_now(self) -> list[HeaderField]:
        """The fields as the message stands now; those of an original that nobody has changed are split only once."""
        if not (self.prepended or self._removed or self._changed or self._appended):
            return self.fields
        return split_fields(b"".join(self.header()))

    def text(self, name: bytes | str) -> str:
        """Return the first value as people see it: encoded words decoded, on one line; "" without such a field (RFC 2047)."""
        from email.errors import MessageError  # here, because most messages are never shown to anybody
        from email.header import decode_header, make_header

        value = b" ".join((self.get(name) or b"").split())
        try:
            return str(make_header(decode_header(value.decode("ascii"))))
        except (ValueError, LookupError, MessageError):
            return value.decode("utf-8", "replace")

    def body(self) -> bytes:
        """Return the body as it stands now, whole, with LF line ends; of a large message (`size`) that is a large value."""
        if self._body is not None:
            return self._body
        reader = self.open()
        reader.seek(self.header_size)
        return reader.read().removeprefix(b"\n")

    def parsed(self) -> EmailMessage:
        """Return the message as it stands now as the library's email.message.EmailMessage, for its MIME parts and addresses."""
        from email import message_from_bytes, policy

        return message_from_bytes(self.as_bytes(), policy=policy.default)

    def as_bytes(self) -> bytes:
        """Return the message as it stands now, whole: for small messages and for tests."""
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """Yield the message as it stands now, in pieces."""
        if not (self._removed or self._changed or self._appended) and self._body is None:
            yield from self.prepended
            yield from _pieces(self.open())
            return
        yield from self.header()
        if self._body is not None:
            yield b"\n" + self._body
            return
        size = self.header_size
        reader = self.open()
        reader.seek(size)
        yield from _pieces(reader)

    def header(self) -> Iterator[bytes]:
        """Yield the fields of the message as it stands now, each whole."""
        yield from self.prepended
        for index, one in enumerate(self.fields):
            if index not in self._removed:
                yield self._changed.get(index, one.raw)
        yield from self._appended

    def body_chunks(self) -> Iterator[bytes]:
        """Yield the body of the message as it stands now, in pieces, without the empty line above it."""
        if self._body is not None:
            yield self._body
            return
        size = self.header_size
        reader = self.open()
        reader.seek(size)
        if reader.read(1) == b"\n":
            yield from _pieces(reader)

    def wire_size(self) -> int:
        """Return the size of the message as it stands now with CRLF line ends, in bytes (RFC 1870 section 5)."""
        return sum(len(piece) + piece.count(b"\n") for piece in self.chunks())

    # -- changing the view

    def prepend(self, raw: bytes) -> None:
        """Put a field, `b"X-Spam: yes"`, on top of the header. Raises PluqError for bytes that would break it."""
        self.prepended.insert(0, check_field(raw))

    def set_field(self, raw: bytes) -> None:
        """Put a field in the place of the first of its name, without the others of that name; on top where there is none.

        Raises PluqError for bytes that would break the header.
        """
        whole = check_field(raw)
        name = _lower(whole.partition(b":")[0])
        for added in (self.prepended, self._appended):
            added[:] = [one for one in added if _lower(one.partition(b":")[0]) != name]
        found = [index for index, one in enumerate(self.fields) if one.name == name and index not in self._removed]
        if not found:
            self.prepended.insert(0, whole)
            return
        self._changed[found[0]] = whole
        self._removed.update(found[1:])

    def append(self, raw: bytes) -> None:
        """Put a field at the end of the header. Raises PluqError for bytes that would break it."""
        self._appended.append(check_field(raw))

    def change(self, name: bytes, number: int, raw: bytes | None) -> bool:
        """Put `raw` in the place of the original's field of that name with this number, counted from 1; None takes it out.

        Fields that were taken out are not counted. False if there is no such field. Raises PluqError as `append`.
        """
        left = [
            index for index, one in enumerate(self.fields) if one.name == name.lower() and index not in self._removed
        ]
        if not 1 <= number <= len(left):
            return False
        if raw is None:
            self._removed.add(left[number - 1])
        else:
            self._changed[left[number - 1]] = check_field(raw)
        return True

    def remove(self, unwanted: Callable[[HeaderField], bool]) -> int:
        """Take out the original's fields for which `unwanted` is true, `lambda field: field.name == b"x-spam"`; return how many."""
        found = {index for index, one in enumerate(self.fields) if unwanted(one)}
        self._removed |= found
        return len(found)

    def replace_body(self, body: bytes) -> None:
        """Put `body` in the place of the original's. Line ends may be LF or CRLF."""
        self._body = body.replace(b"\r\n", b"\n")

    def replace(self, whole: bytes) -> None:
        """Put another message, header and body, in the place of all of this one. Raises PluqError for a header that is none."""
        other = Message.from_bytes(whole.replace(b"\r\n", b"\n"))
        header = [check_field(one.raw) for one in other.fields]
        self._removed.update(range(len(self.fields)))
        self.prepended[:] = header
        self._body = other.body()


def _pieces(reader: BinaryIO) -> Iterator[bytes]:
    while piece := reader.read(CHUNK_BYTES):
        yield piece
