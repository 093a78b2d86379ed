"""Who signs a message: from settings, variables and lines of control files to keys and options.

The domain is that of From. A bounce may be signed by `bounce_domain`; what only passes through by `forwards`, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pluq.config import Home
from pluq.config.settings import Resolved
from pluq.errors import ConfigError
from pluq.hookspecs import Delivery, HeaderField, Message
from pluq.signatures.keys import KeyRing, SigningKey, absolute, candidates
from pluq.signatures.outgoing import read_outgoing
from pluq_dkim.options import (
    KeyLine,
    Options,
    parse_filter_line,
    parse_key_line,
    parse_options,
)
from pluq_dkim.settings import Settings
from pluq_dkim.sign import already_signed, author_domain, checked_domain, make_signature

# Results that only a stranger's message has in our own Authentication-Results.
STRANGERS_METHODS = (b"arc=", b"spf=", b"dkim=", b"dmarc=", b"iprev=")


# -- the domain


def own_domains(message: Message, sender: bytes, settings: Settings) -> list[str]:
    """Return the domains that may sign a message of ours, best first."""
    author = author_domain(message.fields)
    if author is None:
        return []
    bounce = checked_domain(settings.bounce_domain.lower().encode("ascii", "replace")) if not sender else None
    return [author] if bounce is None else [author, bounce]


def domains_of_delivery(message: Message, sender: bytes, settings: Settings, authserv_id: str) -> list[str]:
    """Return the domains that may sign at delivery: nobody here wrote a message that only passes through."""
    if not passes_through(message.fields, authserv_id) or settings.forwards == "%":
        return own_domains(message, sender, settings)
    domain = checked_domain(settings.forwards.lower().encode("ascii", "replace"))
    return [domain] if domain and author_domain(message.fields) else []


def passes_through(fields: list[HeaderField], authserv_id: str) -> bool:
    """Return whether a message is not ours: it went through a mailbox here, or its client was a stranger to our own server."""
    if any(field.name == b"delivered-to" for field in fields):
        return True
    ours = authserv_id.lower().encode("utf-8", "replace")
    for field in fields:
        name, _, results = field.value.partition(b";")
        if field.name != b"authentication-results" or not ours or name.strip().lower() != ours:
            continue
        methods = [part.strip() for part in results.split(b";")]
        if b"auth=pass" not in [method.split(b" ", 1)[0] for method in methods]:
            return any(method.startswith(STRANGERS_METHODS) for method in methods)
    return False


# -- the keys


@dataclass(frozen=True)
class Signer:
    """One signature to be made."""

    domain: str
    key: SigningKey
    options: Options


def find_signers(
    domains: Sequence[str], environment: Mapping[str, str], resolved: Resolved, ring: KeyRing, home: Home
) -> list[Signer]:
    """Return the signers of the first domain that has a key. Raises ConfigError for a key that is needed and cannot be used."""
    for domain in domains:
        settings: Settings = resolved.overlay(environment)[0]
        line = key_line(domain, settings)
        if line is not None:
            settings = resolved.overlay({**environment, **line.variables})[0]
        pattern = line.path if line is not None else settings.key or settings.default_key
        key = find_key(pattern, domain, ring, home)
        if key is None:
            continue
        signers = [Signer(domain, key, options_of(settings, settings.options))]
        if settings.extra_key:
            extra = find_key(settings.extra_key, domain, ring, home)
            if extra is not None and extra.selector != key.selector:
                signers.append(Signer(domain, extra, options_of(settings, settings.extra_options)))
        return signers
    return []


def key_line(domain: str, settings: Settings) -> KeyLine | None:
    """Return the first line of dkimkeys for a domain."""
    if settings.ignore_keys:
        return None
    for text in settings.keys:
        try:
            line = parse_key_line(text)
        except ValueError as error:
            raise ConfigError("control/dkimkeys", str(error), None, "dkim.keys") from None
        if line.domain in (domain, "*"):
            return line
    return None


def find_key(pattern: str, domain: str, ring: KeyRing, home: Home) -> SigningKey | None:
    """Return the key of a domain; None if the pattern leaves it open whether it has one. Raises ConfigError."""
    for path in candidates(pattern, domain, home):
        key = ring.get(path)
        if key is not None:
            return key
    if "%" in pattern:
        return None
    raise ConfigError(absolute(pattern, home), "is not there", None, "dkim")


def options_of(settings: Settings, text: str) -> Options:
    """Return the options of a signature. Raises ConfigError."""
    options = Options(
        identity=settings.identity,
        expire=settings.expire,
        every_field=settings.fields == "all",
        oversigned=settings.oversign,
        excluded=tuple(name.lower() for name in settings.exclude),
    )
    try:
        return parse_options(text, options)
    except ValueError as error:
        raise ConfigError("DKIMSIGNOPTIONS", str(error), None, "dkim.options") from None


def filter_variables(lines: Sequence[str], delivery: Delivery) -> Mapping[str, str] | None:
    """Return the variables that filterargs gives a delivery, nothing without such lines; None: it is not to be signed.

    A line's domain is that of the sender or of a recipient, or * for all.
    """
    found = [line for line in map(parse_filter_line, lines) if line is not None]
    if not found:
        return {}
    sender = delivery.sender.rpartition(b"@")[2]
    names = {name.lower().decode("utf-8", "replace") for name in (sender, delivery.host)} | {"*"}
    return next((line.variables for line in found if line.domain in names), None)


# -- the signatures


async def signatures(message: Message, signers: Sequence[Signer], now: int) -> list[bytes]:
    """Return a field for each signer, except where its signature is there already."""
    wanted = [one for one in signers if not already_signed(message.fields, one.domain, one.key.selector)]
    if not wanted:
        return []
    outgoing = await read_outgoing(message, {(one.options.body_form, None) for one in wanted})
    if outgoing is None or author_domain(outgoing.fields) is None:
        return []
    return [make_signature(outgoing, one.key, one.domain, one.options, now) for one in wanted]


# -- what `pluq check` wants to know


def faults(settings: Settings, home: Home, ring: KeyRing) -> list[str]:
    """Return a sentence for each line, option and key that cannot be used."""
    found: list[str] = []
    for text in (settings.options, settings.extra_options):
        try:
            options_of(settings, text)
        except ConfigError as error:
            found.append(str(error))
    for text in settings.keys:
        try:
            line = parse_key_line(text)
            if "%" not in line.path:
                find_key(line.path, line.domain, ring, home)
            options_of(settings, line.variables.get("DKIMSIGNOPTIONS", ""))
        except (ValueError, ConfigError) as error:
            found.append(f"control/dkimkeys: {error}")
    for pattern in (settings.key, settings.extra_key):
        if pattern and "%" not in pattern:
            try:
                find_key(pattern, "", ring, home)
            except ConfigError as error:
                found.append(str(error))
    return found
