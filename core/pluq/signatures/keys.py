"""Private keys: which file is for a domain, and what is in it.

    control/domainkeys/example.org/default      the key of example.org; the file's name is the selector

A pattern holds % for the domain. Where the domain has no file the name `private` is tried (QMailToaster), then the path without
% (a key for all domains); no file at all means that this domain does not sign. A path without %, and one of dkimkeys, must be there.

A file is PEM (PKCS#1 or PKCS#8, RSA or Ed25519) or the base64 text of an Ed25519 seed, as dkimpy writes it. Files are read again after a
minute, so that a key can be changed without a reload.

Source: qmail-dkim(8), dknewkey(8).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pluq.config import Home
from pluq.errors import ConfigError, ProtocolError
from pluq.signatures import tags
from pluq.signatures.record import MIN_RSA_BITS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = RSAPrivateKey | Ed25519PrivateKey

KEEP_SECONDS = 60.0

# Domains of strangers are looked for too, so what is remembered is bounded.
MAX_KEPT = 4096

ReadFile = Callable[[str], bytes]


@dataclass(frozen=True)
class SigningKey:
    """A private key and the selector under which its public half is published."""

    selector: str
    key: PrivateKey

    @property
    def algorithm(self) -> str:
        return "ed25519-sha256" if self.kind == "ed25519" else "rsa-sha256"

    @property
    def kind(self) -> str:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return "ed25519" if isinstance(self.key, Ed25519PrivateKey) else "rsa"

    def sign(self, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(hashlib.sha256(data).digest())
        return self.key.sign(data, PKCS1v15(), SHA256())

    def public_octets(self) -> bytes:
        """Return the public half as p= has it before base64 (RFC 6376 section 3.6.1, RFC 8463 section 4)."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = self.key.public_key()
        if self.kind == "ed25519":
            return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def candidates(pattern: str, domain: str, home: Home) -> Iterator[str]:
    """Yield the files that may hold the key of a domain, absolute, best first. `domain` is a checked name."""
    path = absolute(pattern, home)
    if "%" not in path:
        yield path
        return
    own = path.replace("%", domain)
    yield own
    folder, _, name = own.rpartition("/")
    if name == "default":
        yield f"{folder}/private"
    if "/%/" in path:
        yield path.replace("/%/", "/")


def absolute(path: str, home: Home) -> str:
    """Return a path of an old configuration: below the home if it begins with control/, else below control."""
    if path.startswith("/"):
        return path
    return f"{home.path}/{path}" if path.startswith("control/") else home.control(path)


class KeyRing:
    """The keys that were read lately, by path."""

    def __init__(self, read_file: ReadFile, clock: Callable[[], float] = time.monotonic) -> None:
        self.read_file = read_file
        self.clock = clock
        self._kept: dict[str, tuple[float, SigningKey | None]] = {}

    def get(self, path: str) -> SigningKey | None:
        """Return the key in a file, None if there is no such file. Raises ConfigError for one that cannot be used."""
        kept = self._kept.get(path)
        if kept is not None and kept[0] > self.clock():
            return kept[1]
        key = self._load(path)
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[path] = (self.clock() + KEEP_SECONDS, key)
        return key

    def _load(self, path: str) -> SigningKey | None:
        try:
            data = self.read_file(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(path, f"cannot be read: {error.strerror}", None, "dkim") from error
        return load_key(path, data)


def load_key(path: str, data: bytes) -> SigningKey:
    """Return the key in the bytes of a file. Raises ConfigError."""
    try:
        selector = tags.domain(path.rpartition("/")[2].encode("utf-8", "replace"))
        key = _private_key(data)
    except (ValueError, TypeError, ProtocolError) as error:
        raise ConfigError(path, f"is no private key for DKIM: {str(error).splitlines()[0]}", None, "dkim") from None
    return SigningKey(selector, key)


def _private_key(data: bytes) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if b"-----BEGIN" not in data:
        return Ed25519PrivateKey.from_private_bytes(tags.octets(data))
    try:
        key = load_pem_private_key(data, None)
    except UnsupportedAlgorithm:
        raise ValueError("unknown kind of key") from None
    if isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"{key.key_size} bits are too few, nobody would accept its signatures")
        return key
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("neither RSA nor Ed25519")
    return key
