"""Authentication-Results: one field for all that the plugins found, and none that somebody else wrote in our name.

The results stand in the order in which they were found: those of the session, then those of the transaction. The field goes to the
top of the message, directly below our own Received and what plugins put there. Fields of the client that bear our authserv-id
are removed, for readers behind us would believe them; those of other hosts stay.

authres renders one result. What strangers chose (addresses, domains, texts) is reduced to harmless characters first, because the
library passes line ends and semicolons in values that look like addresses.

Source: RFC 8601 sections 2.2 and 5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from pluq.hookspecs.message import HeaderField, Message
from pluq.hookspecs.results import AuthResult

_UNSAFE = re.compile(r"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.@:-]")
_UNSAFE_TEXT = re.compile(r"[^ -~]|[\"\\@;()]")
_PIECE = re.compile(rb"\\.|[()]|[^\\()]+|\\", re.DOTALL)
MAX_VALUE = 320
MAX_REASON = 200

# Few domains send most of the mail, and all of a property but b= is the same in each of their messages. An entry takes a kilobyte at most.
KEPT_PROPERTIES = 1024


def render(authserv_id: str, results: Sequence[AuthResult]) -> bytes:
    """Return the whole field with LF line ends; "none" where nothing was checked."""
    lines = [render_one(one) for one in results] or ["none"]
    return ";\n\t".join([f"Authentication-Results: {authserv_id}", *lines]).encode("ascii", "replace") + b"\n"


def render_one(result: AuthResult) -> str:
    """Return one result, as `spf=pass smtp.mailfrom=joe@example.org`."""
    from authres.core import AuthenticationResult

    reason = _UNSAFE_TEXT.sub("?", result.reason)[:MAX_REASON] or None
    verdict = str(AuthenticationResult(result.method, result=result.result, reason=reason))
    return " ".join([verdict, *(render_property(*one) for one in result.properties if one[2])])


@lru_cache(KEPT_PROPERTIES)
def render_property(kind: str, name: str, value: str) -> str:
    from authres.core import AuthenticationResultProperty

    return str(AuthenticationResultProperty(kind, name, _UNSAFE.sub("?", value)[:MAX_VALUE]))


def authserv_id_of(value: bytes) -> bytes:
    """Return the authserv-id of a field's value, lower case; tolerant, because a forger need not be tidy.

    Comments nest as deep as he likes and hold escaped parentheses, and a quoted name may have backslashes (RFC 5322 section 3.2.2).
    """
    outside: list[bytes] = []
    depth = 0
    for piece in _PIECE.findall(value):
        if piece == b"(":
            depth += 1
        elif piece == b")":
            depth = max(depth - 1, 0)
            outside.append(b" ")
        elif not depth:
            outside.append(piece[1:] if piece[:1] == b"\\" else piece)
    words = b"".join(outside).replace(b'"', b" ").replace(b";", b" ").split()
    return words[0].lower() if words else b""


def is_ours(field: HeaderField, authserv_id: bytes) -> bool:
    """Return whether a field claims to be written by us."""
    return field.name == b"authentication-results" and authserv_id_of(field.value) == authserv_id


def mark(message: Message, authserv_id: str, results: Sequence[AuthResult]) -> None:
    """Remove forged fields from the view of a message, and put ours on top."""
    ours = authserv_id.lower().encode("utf-8", "replace")
    message.remove(lambda field: is_ours(field, ours))
    message.prepend(render(authserv_id, results))
