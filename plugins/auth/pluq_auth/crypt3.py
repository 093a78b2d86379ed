"""crypt(3) of the system: the hashes of /etc/shadow, vpopmail and AUTH_CDB.

Python's own module for it is gone since 3.13, so the library is called through ctypes: libcrypt of libxcrypt, which every Linux has. It is
asked about a hash first; one that it calls invalid matches nobody.

Source: crypt(3), crypt_checksalt(3).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hmac
import re
from functools import cache
from typing import Any

# With a $, or traditional: two letters of salt and eleven of hash, from which a mere word is hard to tell.
_FORM = re.compile(rb"\$[!-9;-~]{3,500}|[./0-9A-Za-z]{13}")

DATA_BYTES = 32768  # struct crypt_data of libxcrypt
INVALID = 1


@cache
def library() -> Any:
    """Return libcrypt, None where there is none that can do what we need."""
    try:
        found = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
        found.crypt_rn.restype = ctypes.c_char_p
        found.crypt_rn.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
        found.crypt_checksalt.restype = ctypes.c_int
        found.crypt_checksalt.argtypes = (ctypes.c_char_p,)
    except (OSError, AttributeError):
        return None
    return found


def is_known(stored: bytes) -> bool:
    """Return whether the system has this kind of hash."""
    if _FORM.fullmatch(stored) is None or library() is None:
        return False
    return bool(library().crypt_checksalt(stored) != INVALID)


def matches(stored: bytes, password: bytes) -> bool:
    """Return whether a password has this hash. Never raises."""
    if b"\0" in password or not is_known(stored):
        return False
    made = library().crypt_rn(password, stored, ctypes.create_string_buffer(DATA_BYTES), DATA_BYTES)
    return made is not None and hmac.compare_digest(made, stored)
