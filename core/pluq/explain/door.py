"""From the connection to RCPT: would this mail be taken by SMTP?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from pluq.config import Home
from pluq.config.keys import KeyReader
from pluq.config.site import STOCK, Profile, Site
from pluq.dns import Resolver
from pluq.errors import ConfigError, PluqError
from pluq.explain import places
from pluq.explain.listener import NOTHING, Heard, Listener
from pluq.explain.rehearsal import Exchange, Rehearsal, prepare
from pluq.explain.step import Found, Outcome, Step, text
from pluq.hookspecs import Message, Session, Transaction
from pluq.listen.gate import new_session, take_variables
from pluq.listen.rules import Rules
from pluq.mail.address import quote
from pluq.store.tcprules import decode

CLIENT_PORT = 50000
STRANGER = "192.0.2.1"
"""An address that nobody has (RFC 5737)."""


@dataclass(frozen=True)
class Client:
    """Who brings the mail."""

    sender: bytes = b""
    ip: str = STRANGER
    helo: bytes = b"client.invalid"
    user: bytes | None = None


@dataclass(frozen=True)
class Door:
    """A profile, and what its plugins are given. `log` hears what they log."""

    home: Home
    site: Site
    profile: Profile
    keys: str | None
    resolver: Callable[[], Resolver]
    log: list[str] = field(default_factory=list)

    def rehearse(self, ip: str, environment: dict[str, str]) -> tuple[Rehearsal | None, list[Step]]:
        """Return a session with a client of this address, None if it may not connect; and the steps so far. Raises ConfigError."""
        listener = Listener(partial(places.plugin_place, self.home, self.profile))
        reader = KeyReader(self.home, self.keys)
        service = prepare(self.home, self.site, self.profile, listener, self.log.append, reader, self.resolver)
        local_ip, local_port = local_end(self.profile)
        session = new_session(self.profile.name, service.policy.me, ip, CLIENT_PORT, local_ip, local_port)
        step, relay_by = self.knock(session, ip)
        session.environment.update(environment)
        if "RELAYCLIENT" in environment:
            relay_by = "an E: line of the dialogue"
        if step.is_end:
            return None, [step]
        return Rehearsal(self.home, service, session, listener, relay_by), [step]

    def knock(self, session: Session, ip: str) -> tuple[Step, str]:
        """Apply the connection's rule; return the step, and the place of the rule if it lets the client relay."""
        path = self.profile.rules_path(self.home)
        rule = Rules(path, self.log.append).rule(time.monotonic(), ip)
        if rule is None:
            has_rules = os.path.exists(path) or os.path.exists(f"{path}.cdb")
            why = "no rule says otherwise" if has_rules else "there are no rules"
            return Step(f"{ip} may connect: {why}", places.short(self.home, path)), ""
        place, warning = places.rule_place(self.home, path, rule)
        found = decode(rule[1])
        key = text(rule[0]) or "everybody"
        if found.deny:
            return Step(f"{ip} may not connect: the rule for {key}", place, Outcome.REFUSED), ""
        take_variables(session, found)
        sets = ", ".join(f'{name}="{value}"' for name, value in found.environment) or "nothing"
        what = f"{ip} may connect: the rule for {key} sets {sets}"
        step = Step(f"{what}; {warning}", place, Outcome.WARNING) if warning else Step(what, place)
        return step, place if session.may_relay else ""


def local_end(profile: Profile) -> tuple[str, int]:
    """Return the address and port that a client of this profile would have come to."""
    address, _, port = (*profile.listen, "127.0.0.1:25")[0].rpartition(":")
    return address.strip("[]"), int(port)


def profile_named(site: Site, name: str | None, with_login: bool) -> Profile | None:
    """Return the profile that is meant: by name, else the first that takes SMTP (and logins); None where none does. Raises ConfigError."""
    if name is not None and not (name == STOCK and name not in site.profiles):
        profile = site.profile(name)
        if profile.protocol != "smtp":
            raise ConfigError(site.file, f"profile {name!r} speaks {profile.protocol}, not smtp", None, "profile")
        return profile
    if not site.profiles or name == STOCK:
        return Profile(STOCK)
    able = [one for one in site.profiles.values() if one.protocol == "smtp"]
    if with_login:
        able = [one for one in able if "auth" in one.plugins] or able
    return able[0] if able else None


def ask_door(door: Door, client: Client, address: bytes) -> Found:
    """Return what a session says to this mail, up to RCPT. The facts: the recipients as they would be queued, and the sender."""
    return asyncio.run(_ask(door, client, address))


async def _ask(door: Door, client: Client, address: bytes) -> Found:
    rehearsal, steps = door.rehearse(client.ip, {})
    if rehearsal is None:
        return Found(steps, {})
    try:
        async for found in _lines(rehearsal, client, address):
            steps += found
            if any(step.is_end for step in found):
                return Found(steps, {})
        facts = {
            "recipients": [text_of(one) for one in rehearsal.recipients],
            "sender": text_of(rehearsal.sender or b""),
        }
        program = rehearsal.session.environment.get("QMAILQUEUE")
        if program:
            steps.append(
                Step(f"the message goes through the program {program} first; here it is left out", "QMAILQUEUE")
            )
        return Found([*steps, *await signing(rehearsal, client, address)], facts)
    finally:
        await rehearsal.end()
        steps += [Step(f"logged: {line}") for line in door.log]


def text_of(data: bytes) -> str:
    """Return bytes as JSON takes them; `octets` is the way back."""
    return data.decode("utf-8", "surrogateescape")


def octets(data: str) -> bytes:
    return data.encode("utf-8", "surrogateescape")


async def _lines(rehearsal: Rehearsal, client: Client, address: bytes) -> AsyncIterator[list[Step]]:
    """Say what a client would, and yield the steps of each line."""
    yield heard_steps(await rehearsal.begin(), "banner")
    greeting = await rehearsal.say(b"EHLO " + client.helo)
    yield heard_steps(greeting, f"EHLO {text(client.helo)}")
    if b"STARTTLS" in greeting.reply:
        yield heard_steps(await rehearsal.say(b"STARTTLS"), "STARTTLS, as a client should")
        yield heard_steps(await rehearsal.say(b"EHLO " + client.helo), f"EHLO {text(client.helo)}")
    if client.user is not None:
        login = await rehearsal.login(client.user)
        what = f"logged in as {text(client.user)}, without asking for the secret"
        yield (
            heard_steps(login, what)
            if login.reply
            else [Step(f"nobody can log in to profile {rehearsal.session.profile}", "no plugin auth", Outcome.REFUSED)]
        )
    both_ascii = (client.sender + address).isascii()
    parameter = b"" if both_ascii or b"SMTPUTF8" not in greeting.reply else b" SMTPUTF8"
    sent = await rehearsal.say(b"MAIL FROM:<%b>%b" % (quote(client.sender), parameter))
    yield heard_steps(sent, f"MAIL FROM:<{text(client.sender)}>{text(parameter)}")
    taken = await rehearsal.say(b"RCPT TO:<%b>" % quote(address))
    yield heard_steps(taken, f"RCPT TO:<{text(address)}>")
    if rehearsal.is_discarding:
        yield [Step("the message will be taken and thrown away, for a plugin said so", "", Outcome.REFUSED)]


def heard_steps(exchange: Exchange, what: str) -> list[Step]:
    """Return the steps of one exchange: what the plugins said, then the reply."""
    steps = opinions(exchange.heard, exchange.by)
    if not exchange.reply:
        outcome = Outcome.REFUSED if exchange.is_last else Outcome.WARNING
        return [*steps, Step(f"{what}: no reply{', and the connection is closed' * exchange.is_last}", "", outcome)]
    lines = text(exchange.reply).replace("\r", "").strip().split("\n")
    said = lines[0] if len(lines) == 1 else " ".join([lines[0][:3], *(line[4:] for line in lines)])
    outcome = {4: Outcome.DEFERRED, 5: Outcome.REFUSED}.get(exchange.code // 100, Outcome.FINE)
    return [*steps, Step(f"{what}: {said}", exchange.by, outcome)]


def opinions(heard: Sequence[Heard], by: str) -> list[Step]:
    """Return a step for each plugin that said something which is not the reply itself, and one a hook for those that said nothing."""
    steps: list[Step] = []
    silent: dict[str, list[str]] = {}
    for one in heard:
        if one.hook in QUIET or one.by == by:
            continue
        if one.said() == NOTHING:
            silent.setdefault(one.hook, []).append(one.plugin)
        else:
            steps.append(Step(one.said(), one.by, Outcome.FINE if one.error is None else Outcome.WARNING))
    steps += [Step(NOTHING, f"{', '.join(names)} ({hook})") for hook, names in silent.items() if hook in SPOKEN]
    return steps


# Asked for each command or at each end; they say something only through the reply.
QUIET = frozenset(
    {"start", "stop", "smtp_capabilities", "transaction_end", "smtp_disconnect", "smtp_login_as", "observe"}
)

# Hooks in which it is worth saying that a plugin said nothing.
SPOKEN = frozenset({"smtp_connect", "smtp_helo", "smtp_mail", "smtp_rcpt", "smtp_rcpt_allowed"})


async def signing(rehearsal: Rehearsal, client: Client, address: bytes) -> Sequence[Step]:
    """Return what signatures the profile would put on a message of a client that may relay: its signers are shown a small one."""
    chain = rehearsal.plan.message_sign
    is_ours = rehearsal.session.may_relay or rehearsal.session.login is not None
    if chain is None or rehearsal.sender is None or not is_ours:
        return []
    message = sample(client.sender, address)
    try:
        await chain(session=rehearsal.session, transaction=Transaction(rehearsal.sender), message=message)
    except PluqError as error:
        return [
            Step(f"the message cannot be signed: {error}", f"profile {rehearsal.session.profile}", Outcome.DEFERRED)
        ]
    return list(signatures(message, f"profile {rehearsal.session.profile}", rehearsal.place_of("dkim")))


def sample(sender: bytes, recipient: bytes) -> Message:
    """Return a message of this author, for those who look at messages."""
    author = quote(sender) if sender else b"MAILER-DAEMON"
    return Message.from_bytes(b"From: <%b>\nTo: <%b>\nSubject: sample\n\nsample\n" % (author, quote(recipient)))


def signatures(message: Message, where: str, place: str) -> Iterator[Step]:
    """Yield a step for each DKIM signature that was put on a sample."""
    now = Message.from_bytes(message.as_bytes())
    found = [one for one in now.fields if one.name == b"dkim-signature"]
    for one in found:
        tags = dict(tag.strip().partition(b"=")[::2] for tag in one.value.split(b";"))
        domain, selector = text(tags.get(b"d", b"?")), text(tags.get(b"s", b"?"))
        yield Step(f"signed for {domain} with the key {selector}", f"plugin dkim in {where}, {place}")
    if not found:
        yield Step("no DKIM signature: nobody here signs for this sender and this client", where)
