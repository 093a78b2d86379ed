"""SPF: is there one record, does it make sense, and does it let us send?

The evaluation knows what an administrator writes: all, ip4, ip6, a, mx, include, redirect, exists without macros. What depends on the message
(macros, ptr) matches nobody here. The plugin spf is the full evaluation, for what others publish.

Source: RFC 7208 sections 3, 4.5, 4.6 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from pluq.dns import Resolver
from pluq.publish.finding import Finding, State, addresses, shown, texts
from pluq.publish.hosts import Exchangers, Us

LOOKUPS_MAX = 10
QUALIFIERS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
ASKING = ("a", "mx", "include", "exists", "ptr", "redirect")


class BadRecordError(Exception):
    """A record that receivers take for an error."""


@dataclass
class Term:
    """One mechanism or modifier. `result` is what a match means, `value` what follows the colon or equals sign."""

    result: str
    name: str
    value: str
    prefix: str


def parse(record: str) -> list[Term]:
    """Return the terms of a record. Raises BadRecordError."""
    terms = []
    for word in record.split()[1:]:
        qualifier = word[0] if word[0] in QUALIFIERS else ""
        rest = word[len(qualifier) :]
        name, sign, value = _split(rest)
        if sign == "=":
            terms.append(Term("", name.lower(), value, ""))
            continue
        name, prefix = _cut(name)
        if name.lower() in ("a", "mx") and value:
            value, prefix = _cut(value)
        if name.lower() not in ("all", "ip4", "ip6", "a", "mx", "include", "exists", "ptr"):
            raise BadRecordError(f"{word!r} means nothing in SPF")
        terms.append(Term(QUALIFIERS[qualifier or "+"], name.lower(), value, prefix))
    return terms


def _split(word: str) -> tuple[str, str, str]:
    """Return a word's name, the first : or = in it, and what follows."""
    at = min((place for place in (word.find(":"), word.find("=")) if place >= 0), default=len(word))
    return word[:at], word[at : at + 1], word[at + 1 :]


def _cut(text: str) -> tuple[str, str]:
    """Return what stands before the first slash, and the rest: "/24", "//64" or "/24//64"."""
    at = text.find("/")
    return (text, "") if at < 0 else (text[:at], text[at:])


class Evaluation:
    """One address against one domain's record. `lookups` are those that count towards the limit."""

    def __init__(self, resolver: Resolver, address: str) -> None:
        self._resolver = resolver
        self._address = ip_address(address)
        self.lookups = 0

    async def check(self, domain: str) -> str:
        """Return "pass", "fail", "softfail", "neutral" or "none". Raises BadRecordError, TemporaryFailure."""
        found = [shown(text) for text in await texts(self._resolver, domain, b"v=spf1") if text[6:7] in (b"", b" ")]
        if len(found) > 1:
            raise BadRecordError(f"{domain} has more than one SPF record")
        if not found:
            return "none"
        redirect = ""
        for term in parse(found[0]):
            if term.name in ASKING:
                self.lookups += 1
                if self.lookups > LOOKUPS_MAX:
                    raise BadRecordError(f"more than {LOOKUPS_MAX} terms that need DNS: receivers give up")
            if not term.result:
                redirect = term.value if term.name == "redirect" else redirect
            elif await self._matches(term, domain):
                return term.result
        return await self.check(redirect) if redirect else "neutral"

    async def _matches(self, term: Term, domain: str) -> bool:
        where = term.value or domain
        if "%" in where:
            return False
        match term.name:
            case "all":
                return True
            case "ip4" | "ip6":
                return self._is_in(term.value)
            case "a":
                return await self._is_host(where, term.prefix)
            case "mx":
                records = (await self._resolver.lookup(where, "MX")).records
                return any([await self._is_host(shown(one.host), term.prefix) for one in records[:LOOKUPS_MAX]])
            case "include":
                result = await self.check(where)
                if result == "none":
                    raise BadRecordError(f"include:{where} has no SPF record")
                return result == "pass"
            case "exists":
                return bool((await self._resolver.lookup(where, "A")).records)
        return False

    def _is_in(self, network: str) -> bool:
        try:
            found = ip_network(network, strict=False)
        except ValueError:
            raise BadRecordError(f"{network!r} is no network") from None
        return found.version == self._address.version and self._address in found

    async def _is_host(self, host: str, prefix: str) -> bool:
        four, _, six = prefix.partition("//")
        length = (four[1:] or "32") if self._address.version == 4 else (six or "128")
        found = await addresses(self._resolver, host)
        return any(self._is_in(f"{one}/{length}") for one in found if ip_address(one).version == self._address.version)


async def survey(resolver: Resolver, domain: str, us: Us, mail: Exchangers) -> Finding:
    """Return what there is to say of a domain's SPF. Raises TemporaryFailure."""
    records = [shown(text) for text in await texts(resolver, domain, b"v=spf1") if text[6:7] in (b"", b" ")]
    publish = f'{domain}. TXT "v=spf1 {_senders(us, mail)} -all"'

    def finding(state: State, why: str = "") -> Finding:
        return Finding(
            state, domain, "TXT", "SPF: who may send", records, publish if state is not State.OK else "", why
        )

    if not records:
        return finding(State.MISSING, "large sites refuse or sort out mail of a domain without it")
    if len(records) > 1:
        return finding(State.DIFFERENT, "there must be one record; receivers ignore them all")
    try:
        terms = parse(records[0])
        why = _is_sensible(terms) or await _lets_us(resolver, domain, us)
    except BadRecordError as error:
        why = str(error)
    return finding(State.DIFFERENT if why else State.OK, why)


def _senders(us: Us, mail: Exchangers) -> str:
    """Return the mechanisms that let this host send."""
    if not mail.ours:
        return f"a:{us.name}"
    known = {address for where in mail.hosts.values() for address in where}
    others = [f"ip{ip_address(one).version}:{one}" for one in us.addresses if one not in known]
    return " ".join(["mx", *others])


def _is_sensible(terms: list[Term]) -> str:
    """Return what is wrong with a record at sight, nothing if it makes sense."""
    last = next((term for term in terms if term.name == "all"), None)
    if last is not None and last.result == "pass":
        return "it lets everybody send"
    if last is None and not any(term.name == "redirect" for term in terms):
        return "it does not say what becomes of others; end it with -all or ~all"
    return ""


async def _lets_us(resolver: Resolver, domain: str, us: Us) -> str:
    """Return which of our addresses may not send."""
    if not us.addresses:
        await Evaluation(resolver, "192.0.2.1").check(
            domain
        )  # an address of nobody: finds what is wrong with the record
        return ""
    for address in us.addresses:
        result = await Evaluation(resolver, address).check(domain)
        if result != "pass":
            return f"this host sends from {address}, for which it says {result}"
    return ""
