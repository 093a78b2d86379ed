"""The words of a structured header field: cut into tokens, and written again.

    To: Ann Smith <ann@host.example> (work), "b c"@[127.0.0.1]

is `To` `:` `Ann` `Smith` `<` `ann` `@` `host` `.` `example` `>` `(work)` `,` `"b c"` `@` `[127.0.0.1]`. The text of a token has
no quotes, brackets, backslashes or nested parentheses left. White space only separates; it is put back where two words would
run together and behind commas and colons, and long lists are folded behind a comma.

An atom that could not stand without quotes (control or non-ASCII bytes, closing brackets, backslashes) becomes a quoted word.
Both ways take time in proportion to the length, whatever is in it.

Source: token822.c of qmail; RFC 822 section 3.3, with qmail's liberties.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["ATOM", "COMMENT", "LITERAL", "QUOTE", "Token", "parse", "unparse", "unquote"]

ATOM, QUOTE, LITERAL, COMMENT = b"a", b'"', b"[", b"("
DOT, COMMA, AT, LEFT, RIGHT, COLON, SEMICOLON = b".", b",", b"@", b"<", b">", b":", b";"

WIDTH = 80
"""Lines are folded at commas so that they stay within this many bytes where possible."""


class Token(NamedTuple):
    """One token. `kind` is ATOM, QUOTE, LITERAL, COMMENT, or the special character itself, whose text is empty."""

    kind: bytes
    text: bytes = b""


SPECIALS = {character: Token(character) for character in (DOT, COMMA, AT, LEFT, RIGHT, COLON, SEMICOLON)}
WORDS = frozenset((ATOM, QUOTE, LITERAL, COMMENT))

# The quantifiers ending in + never give back what they took, so that no input makes the search slow.
PIECE = re.compile(
    rb"""(?P<blank>[ \t\r\n]++)
       | (?P<special>[.,@<>:;])
       | "(?P<quote>(?:[^"\\]++|\\.)*+)"
       | \[(?P<literal>(?:[^\]\\]++|\\.)*+)\]
       | (?P<comment>\()
       | (?P<atom>(?:[^\ \t\r\n(\["<>;:@,.)\]\\]|\\.|\\\Z)(?:[^\ \t\r\n(\["<>;:@,.\\]++|\\.|\\\Z)*+)
    """,
    re.DOTALL | re.VERBOSE,
)
COMMENT_PIECE = re.compile(rb"[^()\\]++|\\.|[()]", re.DOTALL)
ESCAPE = re.compile(rb"\\(.?)", re.DOTALL)
KIND_OF_GROUP = {"quote": QUOTE, "literal": LITERAL, "atom": ATOM}

UNSAFE_IN_ATOM = re.compile(rb"[^ -~]|[)\]\\]")
TO_ESCAPE = re.compile(rb'["\[\]()\\\r\n]')
CLOSING = {QUOTE: b'"', LITERAL: b"]", COMMENT: b")"}


def parse(line: bytes) -> list[Token] | None:
    """Return the tokens of a line; None if quotes or brackets do not match."""
    tokens: list[Token] = []
    position = 0
    while position < len(line):
        match = PIECE.match(line, position)
        if match is None:
            return None
        group, position = str(match.lastgroup), match.end()
        if group == "special":
            tokens.append(SPECIALS[match[group]])
        elif group == "comment":
            comment = parse_comment(line, position)
            if comment is None:
                return None
            text, position = comment
            tokens.append(Token(COMMENT, text))
        elif group != "blank":
            tokens.append(word(KIND_OF_GROUP[group], match[group]))
    return tokens


def word(kind: bytes, raw: bytes) -> Token:
    """Return the token for a word as it stood in the line, without its quotes."""
    text = ESCAPE.sub(rb"\1", raw) if b"\\" in raw else raw
    if kind is ATOM and UNSAFE_IN_ATOM.search(text):
        kind = QUOTE
    return Token(kind, text)


def parse_comment(line: bytes, position: int) -> tuple[bytes, int] | None:
    """Return the text of the comment whose opening parenthesis ends at `position`, and where it ends; None if it does not.

    Comments nest; the inner parentheses are left out of the text.
    """
    text: list[bytes] = []
    depth = 1
    while depth:
        match = COMMENT_PIECE.match(line, position)
        if match is None:
            return None
        piece, position = match[0], match.end()
        if piece == b"(":
            depth += 1
        elif piece == b")":
            depth -= 1
        else:
            text.append(piece[1:] if piece.startswith(b"\\") else piece)
    return b"".join(text), position


def unquote(tokens: Iterable[Token]) -> bytes:
    """Return an address as an envelope has it: the texts run together, no quotes, no comments."""
    return b"".join(envelope_text(token) for token in tokens)


def envelope_text(token: Token) -> bytes:
    kind, text = token
    if kind == COMMENT:
        return b""
    if kind == LITERAL:
        return b"[%s]" % text
    return text if kind in WORDS else kind


def unparse(tokens: Sequence[Token], width: int = WIDTH) -> bytes:
    """Return the tokens as a header field, folded behind commas, ending in a newline."""
    segments: list[bytes] = []
    pieces: list[bytes] = []
    previous = b""
    for token in tokens:
        if needs_space(previous, token.kind):
            pieces.append(b" ")
        pieces.append(header_text(token))
        previous = token.kind
        if previous == COMMA:
            segments.append(b"".join(pieces))
            pieces.clear()
    segments.append(b"".join(pieces))
    return fold(segments, width)


def needs_space(previous: bytes, kind: bytes) -> bool:
    """Say whether a space belongs between two neighbours."""
    if previous in (COLON, COMMA):
        return True
    return bool(previous) and (kind == LEFT or (previous in WORDS and kind in WORDS))


def header_text(token: Token) -> bytes:
    """Return a token as it is written in a header field."""
    kind, text = token
    if kind not in WORDS:
        return kind
    escaped = TO_ESCAPE.sub(rb"\\\g<0>", text)
    return escaped if kind == ATOM else kind + escaped + CLOSING[kind]


def fold(segments: Sequence[bytes], width: int) -> bytes:
    """Join pieces that end in commas, with a line break before each one that would make its line too long."""
    lines: list[bytes] = []
    # A line's length counts the break that would end it (newline and blank), and the blank that begins it.
    length = 0
    for number, segment in enumerate(segments):
        if number and length + 2 + len(segment) > width:
            lines.append(b"\n ")
            length = 1
        lines.append(segment)
        length += len(segment)
    lines.append(b"\n")
    return b"".join(lines)
