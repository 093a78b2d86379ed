"""Header fields: where a header ends, which field a line is, and the rewriting of address lists.

A header is a run of fields, each a line `Name: ...` with its continuation lines. It ends at an empty line, at the end of the
input, or at the first line that is no field; then an empty line is put in. A `From ` line becomes the field MBOX-Line.

Address lists are read from right to left, which is how RFC 822 lists are easy to read: an address is what stands between `<`
and `>`, or the words up to a comma; everything around it (phrases, comments, group names) is kept as it is. A comma missing
between two addresses is put in.

Source: headerbody.c, hfield.c and token822.c of qmail; qmail-header(5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pluq.mail.tokens import (
    AT,
    ATOM,
    COLON,
    COMMA,
    COMMENT,
    DOT,
    LEFT,
    LITERAL,
    QUOTE,
    RIGHT,
    SEMICOLON,
    SPECIALS,
    Token,
)

__all__ = ["Rewrite", "field_body", "field_name", "is_field", "read_header", "rewrite_addresses"]

Rewrite = Callable[[list[Token]], list[Token]]
"""Takes the tokens of one address from left to right, and returns those to write in their place."""

MBOX_LINE = b"From "
PIECE = 65536
"""A line is looked at in pieces of this size: a field's name has to end within the first."""

PHRASE = frozenset((COMMENT, ATOM, QUOTE, AT, DOT))


def is_field(line: bytes) -> bool:
    """Say whether a line begins a header field: visible ASCII, perhaps blanks, a colon."""
    name, colon, _ = line.partition(b":")
    name = name.rstrip(b" \t")
    return bool(colon and name) and all(32 < byte < 127 for byte in name)


def field_name(field: bytes) -> bytes:
    """Return the name of a field in lower case, b"" if this is none."""
    name, colon, _ = field.partition(b":")
    return name.rstrip(b" \t").lower() if colon else b""


def field_body(field: bytes) -> bytes:
    """Return what stands behind the name and the white space after it, with the final newline."""
    return field.partition(b":")[2].lstrip(b" \t\r\n")


def read_header(readline: Callable[[int], bytes]) -> tuple[list[bytes], bytes]:
    """Read a header; return its fields, and the bytes that begin the body: b"" if the input ended before one.

    `readline(n)` returns at most n bytes of a line, with its newline, and b"" at the end. A last line without a newline gets
    one. What is left in the input is the rest of the body.
    """
    fields: list[bytes] = []
    pieces: list[bytes] = []
    for piece, is_start in line_pieces(readline):
        if pieces and (not is_start or piece[:1] in (b" ", b"\t")):
            pieces.append(piece)
            continue
        if pieces:
            fields.append(b"".join(pieces))
            pieces.clear()
        if piece == b"\n":
            return fields, piece
        if piece.startswith(MBOX_LINE):
            piece = b"MBOX-Line: " + piece
        elif not is_field(piece):
            return fields, b"\n" + piece
        pieces.append(piece)
    if pieces:
        fields.append(b"".join(pieces))
    return fields, b""


def line_pieces(readline: Callable[[int], bytes]) -> Iterator[tuple[bytes, bool]]:
    """Give the input in pieces that are lines or parts of very long ones, and whether each starts a line."""
    is_start = True
    while piece := readline(PIECE):
        # a short piece without a newline is the last one
        complete = piece if piece.endswith(b"\n") or len(piece) == PIECE else piece + b"\n"
        yield complete, is_start
        is_start = complete.endswith(b"\n")
    if not is_start:
        yield b"\n", False


def rewrite_addresses(tokens: Sequence[Token], rewrite: Rewrite) -> list[Token] | None:
    """Return a field's tokens with each address rewritten, from the last to the first; None if this is no address list.

    `tokens` begin with the field's name and its colon. `rewrite` may have been called for some addresses before the list turns
    out to be none.
    """
    return AddressList(tokens, rewrite).run()


class AddressList:
    """One walk over an address list from right to left. `output` and `address` are reversed until the end."""

    def __init__(self, tokens: Sequence[Token], rewrite: Rewrite) -> None:
        self.tokens = tokens
        self.rewrite = rewrite
        self.place = len(tokens) - 1
        self.output: list[Token] = []
        self.address: list[Token] = []
        self.in_group = False
        self.word_may_follow = True
        """Whether a word to the left still belongs to the address: yes after a dot or an at-sign, no after a word."""

    def run(self) -> list[Token] | None:
        while self.place > 1:
            if not self.step(self.tokens[self.place].kind):
                return None
        self.flush()
        self.output.extend(reversed(self.tokens[: self.place + 1]))
        self.output.reverse()
        return self.output

    def step(self, kind: bytes) -> bool:
        """Deal with the token at `place`; False if the list is malformed."""
        if kind == SEMICOLON:
            return self.group_end()
        if kind == COLON:
            return self.group_start()
        if kind == RIGHT:
            return self.angle_brackets()
        if kind == COMMENT:
            self.keep()
        elif kind == COMMA:
            self.flush()
            self.word_may_follow = True
            self.keep()
        else:
            is_word = kind in (ATOM, QUOTE, LITERAL)
            if is_word and not self.word_may_follow:
                self.flush_with_comma()
            self.word_may_follow = not is_word
            self.take()
        return True

    def group_end(self) -> bool:
        self.flush_with_comma()
        if self.in_group:
            return False
        self.in_group = True
        self.word_may_follow = True
        self.keep()
        return True

    def group_start(self) -> bool:
        self.flush()
        if not self.in_group:
            return False
        self.in_group = False
        self.word_may_follow = True
        while self.place > 1 and self.tokens[self.place].kind != COMMA:
            self.keep()
        if self.place > 1:
            self.keep()
        return True

    def angle_brackets(self) -> bool:
        self.flush_with_comma()
        self.keep()
        while self.place > 1 and self.tokens[self.place].kind != LEFT:
            self.take()
        self.finish_address()  # also an empty one: <> is an address
        if self.place <= 1:
            return False
        self.keep()
        while self.place > 1 and self.tokens[self.place].kind in PHRASE:
            self.keep()
        self.word_may_follow = False
        return True

    def keep(self) -> None:
        """Copy the token as it is."""
        self.output.append(self.tokens[self.place])
        self.place -= 1

    def take(self) -> None:
        """Make the token part of the address."""
        self.address.append(self.tokens[self.place])
        self.place -= 1

    def flush(self) -> None:
        if self.address:
            self.finish_address()

    def flush_with_comma(self) -> None:
        if self.address:
            self.finish_address()
            self.output.append(SPECIALS[COMMA])

    def finish_address(self) -> None:
        self.address.reverse()
        self.output.extend(reversed(self.rewrite(self.address)))
        self.address = []
