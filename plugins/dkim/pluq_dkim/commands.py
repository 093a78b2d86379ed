"""pluq dkim keygen, pluq dkim check: a key for a domain, and whether the world sees the right one."""

from __future__ import annotations

import argparse
import base64
import os
import sys
from collections.abc import Sequence

from pluq.config import Home
from pluq.config.settings import Resolved, resolve
from pluq.config.site import read_site
from pluq.dns import NoRecords, lookup_now
from pluq.errors import ConfigError, ProtocolError, TemporaryFailure
from pluq.hookspecs.plugin import DnsRecord
from pluq.signatures import tags
from pluq.signatures.finding import Unacceptable
from pluq.signatures.keys import KeyRing, SigningKey, load_key
from pluq.signatures.record import MIN_RSA_BITS, KeyRecord, read_record
from pluq_dkim.settings import Settings
from pluq_dkim.sign import checked_domain
from pluq_dkim.signing import find_signers

USAGE, TEMPORARY = 100, 111
FILE_MODE = 0o640
STRING_BYTES = 255  # of a TXT record


class Refused(Exception):
    """What the command ends with: an exit status and a sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def domain_argument(text: str) -> str:
    found = checked_domain(text.rstrip(".").encode("ascii", "replace"))
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no domain")
    return found


def home_of(options: argparse.Namespace) -> Home:
    return Home(os.path.abspath(options.home)) if options.home else Home.from_environment()


def parser_for(verb: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"pluq dkim {verb}", description=about)
    parser.add_argument("domain", type=domain_argument)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    return parser


# -- keygen


def keygen(arguments: Sequence[str]) -> int:
    """Make a private key for DOMAIN and print the DNS record of its public half."""
    parser = parser_for("keygen", keygen.__doc__ or "")
    parser.add_argument("--selector", default="default", type=selector_argument, help="name of the key")
    parser.add_argument("--type", choices=("rsa", "ed25519"), default="rsa")
    parser.add_argument("--bits", type=int, default=2048, help="size of an RSA key (default: 2048)")
    options = parser.parse_args(arguments)
    if options.type == "rsa" and not MIN_RSA_BITS <= options.bits <= 4096:
        parser.error(f"--bits: from {MIN_RSA_BITS} to 4096")
    if not os.path.isdir(home_of(options).control_dir):
        return complain(
            "keygen", USAGE, f"{home_of(options).path}: no qmail home here: make one with `pluq init --home DIR`"
        )
    folder = home_of(options).control(f"domainkeys/{options.domain}")
    path = f"{folder}/{options.selector}"
    data = new_key(options.type, options.bits)
    record = zone_line(load_key(path, data), options.domain)
    try:
        os.makedirs(folder, 0o755, exist_ok=True)
        write_new(path, data, home_of(options))
        with open(f"{path}.pub", "w", encoding="ascii") as file:
            file.write(record)
    except FileExistsError:
        return complain("keygen", USAGE, f"{path} is there already; a key is never overwritten")
    except OSError as error:
        return complain("keygen", TEMPORARY, f"{error.filename}: {error.strerror}")
    sys.stderr.write(f"private key: {path}\n")
    sys.stdout.write(record)
    return 0


def selector_argument(text: str) -> str:
    try:
        return tags.domain(text.encode("ascii", "replace"))
    except ProtocolError:
        raise argparse.ArgumentTypeError(f"{text!r} is no selector") from None


def new_key(kind: str, bits: int) -> bytes:
    """Return a new private key as PEM, PKCS#8."""
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_new(path: str, data: bytes, home: Home) -> None:
    """Write a file that must not be there yet, for its owner and the group of the mail system. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        ids = home.ids()
        if not ids.single:
            os.fchown(fd, 0, ids.gid["qmail"])
        os.fchmod(fd, FILE_MODE)
        file.write(data)
        file.flush()
        os.fsync(fd)


def record_of(key: SigningKey) -> str:
    return f"v=DKIM1; k={key.kind}; p={base64.b64encode(key.public_octets()).decode()}"


def zone_line(key: SigningKey, domain: str) -> str:
    """Return the record as a line of a zone file, with strings that are short enough."""
    text = record_of(key)
    strings = [f'"{text[at : at + STRING_BYTES]}"' for at in range(0, len(text), STRING_BYTES)]
    value = strings[0] if len(strings) == 1 else f"( {' '.join(strings)} )"
    return f"{key.selector}._domainkey.{domain}. IN TXT {value}\n"


# -- check


def check(arguments: Sequence[str]) -> int:
    """Look up the key record of DOMAIN and compare it with the private key."""
    parser = parser_for("check", check.__doc__ or "")
    parser.add_argument("selector", nargs="?", type=selector_argument, help="default: what signs the domain")
    options = parser.parse_args(arguments)
    home = home_of(options)
    try:
        for path, key in keys_of(options.domain, options.selector, home):
            sys.stdout.write(compare(options.domain, options.selector or "", path, key))
    except Refused as refused:
        return complain("check", refused.status, refused.why)
    except ConfigError as error:
        return complain("check", TEMPORARY, str(error))
    return 0


def keys_of(domain: str, selector: str | None, home: Home) -> list[tuple[str, SigningKey | None]]:
    """Return the keys to look at: those that sign the domain as the site is configured, or the one that was named."""
    ring = KeyRing(read_file)
    if selector is not None:
        path = home.control(f"domainkeys/{domain}/{selector}")
        return [(path, ring.get(path))]
    signers = find_signers([domain], os.environ, configured(home), ring, home)
    if not signers:
        raise Refused(USAGE, f"{domain}: no private key; pluq dkim keygen {domain} makes one")
    return [(one.key.selector, one.key) for one in signers]


def configured(home: Home) -> Resolved:
    """Return the settings as [remote] has them, else as the control files and [plugin.dkim] have them."""
    site = read_site(home)
    shared = [site.plugins["dkim"]] if "dkim" in site.plugins else []
    return resolve(Settings, home.controls, shared + site.role("remote").plugin_tables("dkim"))


def compare(domain: str, selector: str, where: str, key: SigningKey | None) -> str:
    """Return a line that says what is well. Raises Refused for what is not."""
    name = f"{key.selector if key else selector}._domainkey.{domain}"
    try:
        record = read_record(lookup_now(name, "TXT").require())
    except NoRecords:
        raise Refused(
            USAGE, f"{name}: no such record" + ("" if key is None else f"; publish:\n{zone_line(key, domain)}")
        ) from None
    except TemporaryFailure as failure:
        raise Refused(TEMPORARY, f"{name}: {failure.text}") from None
    except Unacceptable as error:
        why = f"{error.code.sentence} {error.detail}".strip()
        raise Refused(USAGE, f"{name}: {why}") from None
    flags = "".join([", test mode (t=y)" if record.testing else "", ", i= must be d= (t=s)" if record.strict else ""])
    if key is None:
        return f"{name}: {record.kind} key{flags}; no private key at {where} to compare it with\n"
    if record.kind != key.kind or not is_pair(key, record, name.encode()):
        raise Refused(USAGE, f"{name}: the record is not that of the private key; publish:\n{zone_line(key, domain)}")
    return f"{name}: {record.kind} key, the record is that of the private key{flags}\n"


def published_keys(domain: str, resolved: Resolved, ring: KeyRing, home: Home) -> list[DnsRecord]:
    """Return the records of the keys that sign a domain. Raises ConfigError."""

    def record(key: SigningKey, owner: str) -> DnsRecord:
        name = f"{key.selector}._domainkey.{owner}"

        def fault(found: Sequence[bytes]) -> str:
            try:
                published = read_record(tuple(found))
            except Unacceptable as error:
                return f"{error.code.sentence} {error.detail}".strip()
            matches = published.kind == key.kind and is_pair(key, published, name.encode())
            return "" if matches else "this is not the public half of the key that signs"

        return DnsRecord(name, "TXT", f"DKIM: the key of selector {key.selector}", record_of(key), fault)

    return [record(one.key, one.domain) for one in find_signers([domain], os.environ, resolved, ring, home)]


def is_pair(key: SigningKey, record: KeyRecord, sample: bytes) -> bool:
    """Return whether the public key verifies what the private one signs."""
    return record.verifies(key.sign(sample), sample)


def complain(verb: str, status: int, why: str) -> int:
    sys.stderr.write(f"pluq dkim {verb}: {why.rstrip()}\n")
    return status
