"""Evaluating SPF with pyspf, which is synchronous and would do its own DNS.

pyspf is a pure function of the DNS answers that it has. So it is run with the answers known so far; when it asks for another one,
the run is given up, the answer is fetched with our own resolver (absolute names, bounded, cached), and it is run again. A check asks
few questions and a run takes microseconds to milliseconds, so this costs less than a thread and can be cancelled at any wait.

For the same reason an outcome is kept, with the questions that led to it. For the next message of that domain from that address these are asked
first, and while the answers are what they were, so is the outcome.

Bounds: pyspf counts terms and void lookups (RFC 7208 section 4.6.4), the budget bounds all queries and the time; what exceeds
the budget is a temperror. A failing address lookup of one PTR name skips that name (section 5.5), which pyspf does not do.

Source: RFC 7208.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import spf

from pluq.dns import Budget, NoRecords, Resolver
from pluq.errors import ProtocolError, TemporaryFailure
from pluq.hookspecs import Transaction

# RFC 7208 section 4.6.4: 10 terms, each with up to 10 names to look up; more than this is nobody's honest policy. It is a part of what
# one message may cost: a sender's records must not use up what block lists and signatures need.
MAX_QUERIES = 40
MAX_SECONDS = 12.0
MAX_ADDRESSES = 10

# No domain lists them, and who comes from here is ours.
LOOPBACK = ("127.0.0.1", "::1")

# Stands for the address of a client that has none. It is no client's.
NO_ADDRESS = "0.0.0.0"

# Outcomes kept, and how long the answers may be, written out, that each stands on: few records of honest domains are a tenth of it.
MAX_KEPT = 1024
KEPT_LENGTH = 8192

T = TypeVar("T")
Key = tuple[str, str]


@dataclass
class Answers:
    """What is known so far, and what the present run asked in vain."""

    known: dict[Key, Any]
    missing: list[Key]


_answers: ContextVar[Answers] = ContextVar("answers")


class Unknown(BaseException):
    """The run needs an answer that is not there yet. No Exception, so that pyspf does not take it for a DNS failure; a bare
    `except` in it swallows it all the same, which is why what is missing is noted as well.
    """


def known_answer(name: str, qtype: str, *_: Any) -> list[Any]:
    """Stand in for pyspf's DNS: return what is known, in its form."""
    key = (name.rstrip(".").lower(), qtype)
    answers = _answers.get()
    if key not in answers.known:
        answers.missing.append(key)
        raise Unknown
    found = answers.known[key]
    if isinstance(found, TemporaryFailure):
        raise spf.TempError("DNS problem")
    return [((name, qtype), value) for value in found]


class Query(spf.query):  # type: ignore[misc]  # pyspf has no types
    """A pyspf query that skips a PTR name whose addresses cannot be looked up.

    `source` is the domain whose record decided, or could not be looked up: one that was included or redirected to, or the sender's.
    """

    source = ""

    def dns_spf(self, domain: str) -> Any:
        self.source = domain
        return super().dns_spf(domain)

    def check1(self, record: str, domain: str, recursion: int) -> Any:
        answer = self._decided = super().check1(record, domain, recursion)
        return answer

    def check0(self, record: str, recursion: int) -> Any:
        domain, self._decided = self.d, None
        answer = super().check0(record, recursion)
        below = self._decided
        # An included record decides if it is a pass; that of a redirect always does, and its answer is handed on as it is.
        if below is not None and below is not answer and below[0] != "pass":
            self.source = domain
        return answer

    def validated_ptrs(self) -> list[str]:
        return [name for name in self.dns_ptr(self.i)[:MAX_ADDRESSES] if self._is_ours(name)]

    def _is_ours(self, name: str) -> bool:
        try:
            return bool(self.cidrmatch(self.dns_a(name, self.A), self.cidrmax))
        except spf.TempError:
            return False


@dataclass(frozen=True)
class Outcome:
    """`result` is RFC 7208's word; `local` that a rule of this site decided; `explanation` the domain's own text for a fail;
    `source` the domain whose record decided.
    """

    result: str
    domain: str
    local: bool = False
    explanation: str = ""
    reason: str = ""
    source: str = ""


@dataclass(frozen=True)
class Client:
    """Who is asked about: the address or NO_ADDRESS, the sender ("" for none), the HELO name; `receiver` is our own name, for macros;
    `is_ours` that this host talks to itself, by whatever address.
    """

    ip: str
    sender: str
    helo: str
    receiver: str
    is_ours: bool = False

    @property
    def domain(self) -> str:
        """The domain that is asked about: behind the last @, as a local part may hold one, and without a dot at its end."""
        name = self.sender.rpartition("@")[2] if self.sender else self.helo
        return name.removesuffix(".")


def budget_of(transaction: Transaction) -> Budget:
    """Return what SPF may look up for a message, all its identities together."""
    return transaction.dns_budget.part(MAX_QUERIES, MAX_SECONDS)


async def evaluate(client: Client, resolver: Resolver, budget: Budget, rules: str = "", guess: str = "") -> Outcome:
    """Return the outcome for a client. `rules` and `guess` are mechanisms of the site, see the settings of the plugin."""
    if client.is_ours or client.ip in LOOPBACK:
        return Outcome("pass", client.domain, local=True)
    if client.ip == NO_ADDRESS:
        return Outcome("permerror", client.domain, reason="the client has no address")
    case = (client.ip, client.domain, rules, guess)  # what an outcome depends on where no macro asks for more
    asked, outcome = _kept.get(case, ({}, None))
    known: dict[Key, Any] = {}
    for question, answer in asked.items():
        known[question] = await fetch(*question, resolver, budget)
        if known[question] != answer:
            break
    else:
        if outcome is not None:
            return outcome
    outcome = await _run(lambda: check(client, rules, guess), resolver, budget, known)
    if _is_general(known, rules + guess):
        _keep(case, known, outcome)
    return outcome


_kept: dict[tuple[str, ...], tuple[dict[Key, Any], Outcome]] = {}


def _is_general(known: dict[Key, Any], own: str) -> bool:
    """Return whether no macro, in a record or a rule of this site, can ask for the local part, the time and the like; and it is no lot to keep."""
    text = f"{known}{own}"
    return "%" not in text and len(text) <= KEPT_LENGTH


def _keep(case: tuple[str, ...], known: dict[Key, Any], outcome: Outcome) -> None:
    _kept.pop(case, None)
    if len(_kept) >= MAX_KEPT:
        del _kept[next(iter(_kept))]  # the oldest
    _kept[case] = known, outcome


async def expand(client: Client, text: str, resolver: Resolver, budget: Budget) -> str:
    """Return `text` with its SPF macros expanded, or as it is where they cannot be."""

    def run() -> str:
        try:
            return str(make_query(client).expand(text, stripdot=False))
        except (spf.PermError, spf.TempError):
            return text

    return await _run(run, resolver, budget, {})


async def _run(function: Callable[[], T], resolver: Resolver, budget: Budget, known: dict[Key, Any]) -> T:
    """Return what the function returns once every answer that it asks for is known; what it asked for is added to `known`."""
    while True:
        answers = Answers(known, [])
        token = _answers.set(answers)
        try:
            found = function()
            if not answers.missing:
                return found
        except Unknown:
            pass
        finally:
            _answers.reset(token)
        key = answers.missing[0]
        known[key] = await fetch(*key, resolver, budget)


def make_query(client: Client, local: str | None = None) -> Query:
    spf.DNSLookup = known_answer
    query = Query(client.ip, client.sender, client.helo, local=local, receiver=client.receiver, querytime=0)
    # pyspf takes the first @ for the one in front of the domain.
    query.l = client.sender.rpartition("@")[0] or "postmaster"
    query.o = query.d = client.domain
    return query


def check(client: Client, rules: str, guess: str) -> Outcome:
    """Return the outcome, from the answers known so far. Raises Unknown for one that is missing."""
    try:
        query = make_query(client)
    except spf.PermError as error:
        return Outcome("permerror", client.domain, reason=str(error))
    outcome = _outcome(query, query.check(), client)
    if outcome.result == "none" and (rules or guess):
        policy = make_query(client)
        said = _outcome(policy, policy.check(spf=f"v=spf1 {rules} {guess}"), client, local=True)
        has_matched = policy.mechanism is not None or said.result != "neutral"
        return said if has_matched else outcome
    if rules and outcome.result in ("fail", "softfail", "neutral"):
        own = make_query(client, local=rules)
        changed = _outcome(own, own.check(), client, local=True)
        return changed if changed.result != outcome.result else outcome
    return outcome


def _outcome(query: Query, answer: tuple[str, int, str], client: Client, local: bool = False) -> Outcome:
    result, _, text = answer
    own_words = text if result == "fail" and text != spf.EXPLANATIONS.get("fail") else ""
    reason = text if result in ("permerror", "temperror") else ""
    return Outcome(result, client.domain, local, own_words, reason, query.source)


async def fetch(name: str, qtype: str, resolver: Resolver, budget: Budget) -> Any:
    """Return the records in pyspf's form; a TemporaryFailure as a value, because it is an answer too."""
    try:
        answer = await resolver.lookup(name, qtype, budget)
        return [_as_pyspf(qtype, record) for record in answer.require()]
    except NoRecords:
        return []
    except TemporaryFailure as failure:
        return failure
    except (ProtocolError, ValueError):  # a name that DNS cannot carry exists nowhere
        return []


def _as_pyspf(qtype: str, record: Any) -> Any:
    if qtype == "MX":
        return record.preference, record.host.decode("ascii", "backslashreplace")
    if qtype == "PTR":
        return record.decode("ascii", "backslashreplace")
    return (record,) if qtype in ("TXT", "SPF") else record
