"""pluq tls self-signed: a key and a certificate to begin with.

    pluq tls self-signed [--home DIR] [--name HOST]... [--days N] [--output FILE]

Writes an ECDSA key (P-256) and a certificate that it signs itself into one file, control/servercert.pem by default, readable by its owner
and group alone. Other mail servers do not look at certificates; mail programs of users will ask whether to trust it. An existing file is
not overwritten.

Source: RFC 5280.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence

from pluq.config import Home


def make_certificate(names: Sequence[str], days: int, now: datetime.datetime) -> bytes:
    """Return a private key and a certificate for these host names, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def write_secret(path: str, data: bytes, gid: int | None) -> None:
    """Write a new file that only its owner and one group may read. Raises FileExistsError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if gid is not None:
            os.fchown(fd, -1, gid)
            os.fchmod(fd, 0o640)
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def self_signed(argv: Sequence[str]) -> int:
    """Make a key and a self-signed certificate."""
    parser = argparse.ArgumentParser(prog="pluq tls self-signed", description=self_signed.__doc__)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--name", metavar="HOST", action="append", help="a name of this host (default: control/me)")
    parser.add_argument("--days", type=int, default=825, help="how long it is valid (default: 825)")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: control/servercert.pem)")
    options = parser.parse_args(argv)
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    names = options.name or [(home.controls.me() or b"localhost").decode("ascii", "replace")]
    path = options.output or home.control("servercert.pem")
    ids = home.ids()
    try:
        data = make_certificate(names, options.days, datetime.datetime.now(datetime.UTC))
        write_secret(path, data, None if ids.single else ids.gid["nofiles"])
    except FileExistsError:
        sys.stderr.write(f"pluq tls self-signed: {path} is there already; move it away first\n")
        return 100
    except OSError as error:
        sys.stderr.write(f"pluq tls self-signed: {path}: {os.strerror(error.errno or 0)}\n")
        return 111
    sys.stdout.write(f"{path}: key and certificate for {', '.join(names)}, {options.days} days\n")
    return 0
