"""TLS on a session: what its layer is called for plugins and Received, and the layer itself where there is no transport.

The resident server lets its event loop encrypt. A program on descriptors 0 and 1 has only bytes: `TlsLayer` turns one side's
bytes into the other's, whatever they travel on.

Source: RFC 3207; ssl.MemoryBIO.
"""

from __future__ import annotations

import ssl
from typing import Any

from pluq.hookspecs.context import Tls

# One TLS record holds 16 KiB.
RECORD_BYTES = 16384


def describe(layer: Any) -> Tls:
    """Return the description of an ssl.SSLObject (or SSLSocket) after its handshake."""
    cipher = layer.cipher()
    certificate = layer.getpeercert() or {}
    return Tls(
        version=layer.version() or "",
        cipher=cipher[0] if cipher else "",
        server_name=getattr(layer, "pluq_server_name", None),
        client_subject=subject_of(certificate),
        client_email=email_of(certificate),
        certificate=getattr(layer.context, "pluq_certificate", b""),
    )


def subject_of(certificate: dict[str, Any]) -> str | None:
    """Return the subject of a verified client certificate as name=value pairs, None without one."""
    parts = [f"{name}={value}" for pair in certificate.get("subject", ()) for name, value in pair]
    return ", ".join(parts) or None


def email_of(certificate: dict[str, Any]) -> str | None:
    """Return the first mail address of a verified client certificate: of its subject, else of its alternative names."""
    for pair in certificate.get("subject", ()):
        for name, value in pair:
            if name == "emailAddress":
                return str(value)
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "email":
            return str(value)
    return None


class TlsLayer:
    """The server's side of TLS between bytes and bytes. Raises OSError (ssl.SSLError) for what is no TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._layer = context.wrap_bio(self._in, self._out, server_side=True)
        self.is_closed = False

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done, False when more bytes of the client are needed."""
        try:
            self._layer.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def incoming(self, data: bytes) -> None:
        self._in.write(data)

    def outgoing(self) -> bytes:
        """Return what is to be sent now."""
        return self._out.read()

    def received(self, data: bytes) -> tuple[bytes, bytes]:
        """Decrypt what the client sent; return it and what is to be sent for that."""
        self._in.write(data)
        plain = bytearray()
        try:
            while piece := self._layer.read(RECORD_BYTES):
                plain += piece
            self.is_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.is_closed = True
        return bytes(plain), self._out.read()

    def encrypt(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self._layer.write(view[:RECORD_BYTES]) :]
        return self._out.read()

    def goodbye(self) -> bytes:
        """Return the close alert. The client's own is not waited for."""
        try:
            self._layer.unwrap()
        except (ssl.SSLError, OSError):
            pass
        return self._out.read()

    def describe(self) -> Tls:
        return describe(self._layer)
