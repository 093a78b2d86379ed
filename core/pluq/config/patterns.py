"""Patterns in lists of the administrator: POSIX extended regular expressions, without regard to case.

The engine is RE2 (google-re2, which plugins that use this require), whose time is linear in the text whatever the pattern, so that
no line of a list and no address of a stranger can stop a server. POSIX is translated where RE2 differs: in brackets a backslash
is a backslash, `{,n}` counts from 0, `\\<` and `\\>` are word limits, and a backslash before any other letter that POSIX leaves
undefined is that letter.

Source: regex(7).
"""

from __future__ import annotations

import re
from typing import Any

import re2

# The GNU extensions that regcomp(3) knows and RE2 writes the same way.
GNU_ESCAPES = b"wWsSbB"
_TOKEN = re.compile(rb"\\.|\[\^?\]?(?:\[[:.=].*?[:.=]\]|[^\]])*\]|\{,|.", re.DOTALL)


def to_re2(pattern: bytes) -> bytes:
    """Return the RE2 form of a POSIX extended regular expression."""
    return b"".join(_translate(token) for token in _TOKEN.findall(pattern))


def _translate(token: bytes) -> bytes:
    if token == b"{,":
        return b"{0,"
    if token in (rb"\<", rb"\>"):
        return rb"\b"
    if len(token) == 2 and token[:1] == b"\\" and token[1:].isalnum() and token[1] not in GNU_ESCAPES:
        return token[1:]
    if len(token) > 1 and token[:1] == b"[":
        return _translate_bracket(token)
    return token


def _translate_bracket(token: bytes) -> bytes:
    negated = b"^" if token[1:2] == b"^" else b""
    inner = token[1 + len(negated) : -1].replace(b"\\", rb"\\")
    if inner.startswith(b"]"):
        inner = rb"\]" + inner[1:]
    return b"[" + negated + re.sub(rb"\[(?![:.=])", rb"\\[", inner) + b"]"


def compile_pattern(pattern: bytes) -> Any:
    """Return the compiled pattern. Raises ValueError for what is no regular expression."""
    options = re2.Options()
    options.case_sensitive = False
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    options.log_errors = False
    try:
        return re2.compile(to_re2(pattern), options)
    except re2.error as error:
        raise ValueError(str(error)) from None
