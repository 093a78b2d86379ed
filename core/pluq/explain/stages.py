"""The stages in their order: connection and session, plugins of the queue, then routing and delivery of each recipient.

A forward is a new message: it is routed anew, down to MAX_DEPTH. A message that would come to the same mailbox again is what the Delivered-To line
stops: a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pluq.config import Home
from pluq.config.site import Profile, Site
from pluq.dns import Answer, Budget, Resolver, Status
from pluq.dns.codec import normal_name
from pluq.explain.children import identity_of, run_as
from pluq.explain.door import Client, Door, ask_door, octets, text_of
from pluq.explain.elsewhere import Way
from pluq.explain.mailbox import deliver_here
from pluq.explain.routing import route
from pluq.explain.step import Found, Outcome, Step, text
from pluq.hookspecs import Envelope
from pluq.plan.compile import compile_plan, process_resolver
from pluq.send.rewrite import LOCAL, Routing
from pluq.send.settings import read_settings
from pluq.supervisor.hier import is_null_client

MAX_DEPTH = 10


class Unasked(Resolver):
    """A resolver that asks nobody: no name has any record. To most plugins that is no reason to refuse or to put off."""

    async def lookup(self, name: bytes | str, rdtype: str, budget: Budget | None = None) -> Answer:
        wanted = normal_name(name)
        return Answer(wanted, rdtype, Status.NO_DATA, canonical=wanted)


def no_resolver() -> Resolver:
    return Unasked([])


@dataclass(frozen=True)
class Question:
    """What is to be explained. `profile` None: as if a program of this host sent it."""

    home: Home
    site: Site
    profile: Profile | None
    client: Client
    asks_dns: bool = True
    keys: str | None = None

    @property
    def resolver(self) -> Callable[[], Resolver]:
        return process_resolver if self.asks_dns else no_resolver

    def door(self) -> Door:
        assert self.profile is not None
        return Door(self.home, self.site, self.profile, self.keys, self.resolver)


def explain(question: Question, address: bytes) -> list[Step]:
    """Return every step that mail for this address would take. Raises ConfigError."""
    home, sender = question.home, question.client.sender
    handed = handed_on(home)
    if handed is not None:
        return [handed]
    steps: list[Step] = []
    recipients = [address]
    if question.profile is not None:
        found = run_as(
            identity_of(home, "qmaild", "nofiles"), partial(ask_door, question.door(), question.client, address)
        )
        steps += found.steps
        if any(step.is_end for step in found.steps):
            return steps
        recipients = [octets(one) for one in found.facts["recipients"]]
        sender = octets(found.facts["sender"])
    queued = run_as(identity_of(home, "qmaild", "nofiles"), partial(ask_queue, question, sender, recipients))
    steps += queued.steps
    if queued.facts:
        sender, recipients = octets(queued.facts["sender"]), [octets(one) for one in queued.facts["recipients"]]
    tracker = Tracker(question, read_settings(home.controls).routing, steps)
    for recipient in recipients:
        tracker.send(recipient, sender, 0, frozenset())
    return steps


def handed_on(home: Home) -> Step | None:
    """Return the only step of a null client, whose qmail-queue gives everything to another host; None where there is a queue."""
    if not is_null_client(home):
        return None
    servers = home.controls.lines("qmqpservers") or []
    if not servers:
        return Step("this host hands all mail on by QMQP and knows no server", "control/qmqpservers", Outcome.DEFERRED)
    names = ", then ".join(text(one) for one in servers)
    return Step(f"this host has no queue: all mail goes to {names} by QMQP, which decides", "control/qmqpservers:1")


def ask_queue(question: Question, sender: bytes, recipients: list[bytes]) -> Found:
    """Return what plugins of [queue] do to the envelope."""
    plan = compile_plan(question.home, question.site, "queue", role="queue", log=lambda line: None)
    if plan.queue_envelope is None:
        return Found([], {})
    envelope = Envelope(sender, list(recipients))
    plan.queue_envelope(envelope=envelope)
    added = [one for one in envelope.recipients if one not in recipients]
    gone = [one for one in recipients if one not in envelope.recipients]
    words = [f"also to {text(one)}" for one in added] + [f"not to {text(one)}" for one in gone]
    words += [f"with the sender {text(envelope.sender)}"] if envelope.sender != sender else []
    facts = {"sender": text_of(envelope.sender), "recipients": [text_of(one) for one in envelope.recipients]}
    return Found([Step(f"queued {', '.join(words)}", "a plugin of [queue]")] if words else [], facts)


@dataclass
class Tracker:
    """Follows messages from the queue to their ends."""

    question: Question
    routing: Routing
    steps: list[Step]

    def send(self, address: bytes, sender: bytes, depth: int, been: frozenset[bytes]) -> None:
        """Add the steps of one recipient, and of all that its mail is forwarded to. `been` are the mailboxes on the way here."""
        home = self.question.home
        channel, routed, steps = route(home, self.routing, address, depth)
        self.steps += steps
        if channel != LOCAL:
            self.steps += self.way(routed, sender, depth)
            return
        if routed in been:
            loop = "a loop: the message came through this mailbox already, and its Delivered-To line says so (#5.4.6)"
            self.steps.append(Step(loop, text(routed), Outcome.REFUSED, depth))
            return
        found = deliver_here(home, routed, sender, depth)
        self.steps += found.steps
        self.forward(found.facts, depth + 1, been | {routed})

    def way(self, routed: bytes, sender: bytes, depth: int) -> list[Step]:
        question = self.question
        way = Way(question.home, question.site, question.keys, question.resolver, question.asks_dns)
        found = run_as(identity_of(question.home, "qmailr", "qmail"), partial(way.explain, routed, sender, depth))
        return [replace(step, depth=depth) for step in found.steps]

    def forward(self, facts: Mapping[str, object], depth: int, been: frozenset[bytes]) -> None:
        recipients = facts.get("recipients", [])
        assert isinstance(recipients, list)
        for one in recipients:
            if depth > MAX_DEPTH:
                self.steps.append(Step(f"{one}: not followed any further", "", Outcome.WARNING, depth))
            else:
                self.send(octets(one), octets(str(facts["sender"])), depth, been)
