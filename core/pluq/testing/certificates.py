"""Certificates for tests: an authority of the test's own, and what it signs.

    authority = Authority()
    context = authority.server_context(tmp_path, ["mx.example.org"])     # for a peer
    client = ssl.create_default_context(cadata=authority.pem)            # believes it

Everything is made anew, with keys of P-256, which costs less than a millisecond.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Authority:
    """One who signs. `certificate` is its own, signed by itself or by a `parent`; `pem` that as text."""

    def __init__(self, name: str = "test authority", parent: Authority | None = None) -> None:
        self.parent = parent
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            self._builder(self.name, self.key)
            .issuer_name(parent.name if parent else self.name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        self.certificate = self._signed(builder, parent or self)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(
        self, names: Sequence[str], days: int = 30, common_name: str | None = None
    ) -> tuple[bytes, x509.Certificate]:
        """Return a private key (PEM) and a certificate for host names; with `days` negative one that has ended."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or names[0])])
        builder = (
            self._builder(subject, key, days)
            .issuer_name(self.name)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return private, self._signed(builder, self)

    def server_context(self, folder: Path, names: Sequence[str], days: int = 30) -> ssl.SSLContext:
        """Return the context of a server with a certificate for these names, and the chain up to this authority."""
        private, certificate = self.issue(names, days)
        return context_of(folder, private, [certificate, *self.chain()])

    def chain(self) -> list[x509.Certificate]:
        """Return the certificates from this authority upwards."""
        return [self.certificate, *(self.parent.chain() if self.parent else [])]

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 30) -> x509.CertificateBuilder:
        end = datetime.datetime.now(datetime.UTC) + days * DAY
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - abs(days) * DAY - DAY)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    @staticmethod
    def _signed(builder: x509.CertificateBuilder, signer: Authority) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
        return builder.add_extension(identifier, critical=False).sign(signer.key, hashes.SHA256())


def context_of(folder: Path, private: bytes, chain: Sequence[x509.Certificate]) -> ssl.SSLContext:
    """Return the context of a server that shows this chain, its own certificate first."""
    path = folder / f"{chain[0].serial_number}.pem"
    path.write_bytes(private + b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
