"""TLS contexts of the server, from the files that patched qmail has.

    control/servercert.pem               key, certificate and chain in one file
    control/servercerts/NAME/servercert.pem   the same for clients that ask for NAME (SNI)
    control/clientca.pem, clientcrl.pem  who signs the certificates of clients that may relay

A file that only root may read is read by the core before this process existed as it is; its bytes reach OpenSSL through a file in
memory, because the library loads keys by path alone.

TLS 1.2 and newer, no renegotiation, no compression; ciphers are OpenSSL's own unless the site lists some. Client certificates are asked
for in the first handshake where there are clients that may relay by them: TLS 1.3 cannot ask later.

Source: the TLS patch of qmail; RFC 7525, RFC 8314, RFC 6066 section 3.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pluq.errors import ConfigError

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

ReadFile = Callable[[str], bytes]


@contextmanager
def file_in_memory(data: bytes) -> Iterator[str]:
    """Give bytes a path for as long as the block runs."""
    fd = os.memfd_create("pluq-tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def is_missing(path: str, read_file: ReadFile) -> bool:
    """Say whether nothing is there. The reader is asked, for we may not be allowed to enter the folder of a key."""
    try:
        read_file(path)
    except FileNotFoundError:
        return not os.path.lexists(path)
    except OSError:
        return False
    return False


def load_certificate(context: ssl.SSLContext, path: str, key_path: str, read_file: ReadFile) -> None:
    """Load key, certificate and chain. Raises ConfigError naming the file."""
    try:
        data = read_file(path)
        key = read_file(key_path) if key_path else data
    except OSError as error:
        raise ConfigError(error.filename or path, os.strerror(error.errno or 0)) from error
    with file_in_memory(data) as chain_file, file_in_memory(key) as key_file:
        try:
            context.load_cert_chain(chain_file, key_file, password=no_password)
            context.pluq_certificate = data[data.find(b"-----BEGIN CERTIFICATE") :]  # type: ignore[attr-defined]  # see Tls
        except ssl.SSLError as error:
            raise ConfigError(path, f"no usable key and certificate: {error.reason or error}") from error


def no_password() -> str:
    """A key with a passphrase cannot be used by a server that starts on its own."""
    raise ConfigError("private key", "is encrypted; a server cannot ask for its passphrase")


def server_context(certificate: str, key: str, minimum: str, ciphers: str, read_file: ReadFile) -> ssl.SSLContext:
    """Return a context for one certificate. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if ciphers:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:
            raise ConfigError("tlsserverciphers", f"OpenSSL knows none of {ciphers!r}") from error
    load_certificate(context, certificate, key, read_file)
    return context


def accept_clients(context: ssl.SSLContext, authorities: bytes, revoked: bytes | None) -> None:
    """Ask clients for a certificate and verify it if they have one; a bad one fails the handshake."""
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
        if revoked is not None:
            with file_in_memory(revoked) as path:
                context.load_verify_locations(cafile=path)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError("clientca.pem", f"no usable certificates: {error}") from error


def choose_by_name(context: ssl.SSLContext, find: Callable[[str], ssl.SSLContext | None]) -> None:
    """Let the name that a client asks for choose the certificate; an unknown one gets the usual."""

    def chosen(layer: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        other = find(name.lower()) if name else None
        if other is not None:
            layer.context = other
            layer.pluq_server_name = name.lower() if name else None  # type: ignore[attr-defined]  # the session reads it

    context.sni_callback = chosen


def is_host_name(name: str) -> bool:
    """Return whether a name from a stranger may be a folder's name: a host name, and nothing that leaves the folder."""
    labels = name.split(".")
    return 0 < len(name) < 254 and all(
        label and label.replace("-", "a").isalnum() and label.isascii() for label in labels
    )
