"""Mail for another host: by which route, to which addresses, with TLS or not, signed with which key.

`remote.deliver` decides, up to the point where it would connect. It runs as qmailr, with the plugins of [remote].
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pluq.config import Home
from pluq.config.keys import KeyReader
from pluq.config.site import Site
from pluq.dns import Resolver
from pluq.errors import PluqError
from pluq.explain import places
from pluq.explain.door import sample, signatures
from pluq.explain.listener import Listener
from pluq.explain.places import line_or_me, mapped
from pluq.explain.step import Found, Outcome, Step, failed, text
from pluq.hookspecs import Delivery
from pluq.plan import Plan
from pluq.plan.compile import compile_plan
from pluq.remote.deliver import Deliverer, NextHost, heed
from pluq.remote.route import Candidate, Route, Undeliverable, literal_address
from pluq.remote.settings import RemoteSettings
from pluq.remote.tcpto import TcpTo


@dataclass(frozen=True)
class Way:
    """How deliveries to other hosts are asked about. `asks_dns` False: names stay names."""

    home: Home
    site: Site
    keys: str | None
    resolver: Callable[[], Resolver]
    asks_dns: bool
    log: list[str] = field(default_factory=list)

    def place_of(self, plugin: str) -> str:
        return places.plugin_place(self.home, self.site.role("remote"), plugin)

    def explain(self, address: bytes, sender: bytes, depth: int) -> Found:
        return asyncio.run(self._explain(address, sender, depth))

    async def _explain(self, address: bytes, sender: bytes, depth: int) -> Found:
        listener = Listener(self.place_of)
        settings = RemoteSettings.read(self.home.controls)
        reader = KeyReader(self.home, self.keys)
        plan = compile_plan(
            self.home,
            self.site,
            "remote",
            role="remote",
            log=self.log.append,
            resolver=self.resolver,
            read_file=reader,
            watch=listener,
        )
        if plan.start is not None:
            await plan.start()
        deliverer = Deliverer(lambda: settings, self.resolver, TcpTo(f"{self.home.queue}/lock/tcpto"), plan)
        host = address.rpartition(b"@")[2]
        delivery = Delivery("remote", 0, sender, [address], host, sample(sender, address))
        steps: list[Step] = []
        try:
            await Journey(self, plan, deliverer, delivery, listener, steps).go(settings)
        except Undeliverable as error:
            steps.append(failed(error.record))
        except PluqError as error:
            steps.append(Step(str(error), outcome=Outcome.DEFERRED))
        steps += [Step(f"logged: {line}") for line in self.log]
        return Found([Step(one.what, one.by, one.outcome, depth) for one in steps], {})


@dataclass
class Journey:
    """One delivery on its way to where it would connect."""

    way: Way
    plan: Plan
    deliverer: Deliverer
    delivery: Delivery
    listener: Listener
    steps: list[Step]

    async def go(self, settings: RemoteSettings) -> None:
        delivery, plan = self.delivery, self.plan
        self.listener.take()
        if plan.remote_envelope is not None:
            before = delivery.sender, list(delivery.recipients)
            await plan.remote_envelope(delivery=delivery)
            if (delivery.sender, delivery.recipients) != before:
                changed = f"from {text(delivery.sender)} to {text(b' '.join(delivery.recipients))}"
                self.steps.append(Step(f"goes {changed}", self.heard_names()))
        await self.sign()
        self.listener.take()
        route = await self.deliverer.route(delivery, settings)
        self.steps += self.route_steps(route, settings)
        helo = line_or_me(self.way.home, "helohost")
        self.steps.append(Step(f"greets as {text(settings.helohost)}", helo))
        if not self.way.asks_dns and literal_address(route.host) is None:
            name = text(route.host)
            self.steps.append(Step(f"the {'addresses' if route.relay else 'MX records'} of {name} were not asked for"))
            self.steps += self.intentions(route.host)
            return
        await self.addresses(await self.deliverer.candidates(route, delivery))

    def heard_names(self) -> str:
        return ", ".join(dict.fromkeys(one.by for one in self.listener.take() if one.answer is not None)) or "plugins"

    async def sign(self) -> None:
        """Let the plugins change a sample, and look what they did to it."""
        if self.plan.remote_message is None or self.delivery.message is None:
            return
        await self.plan.remote_message(delivery=self.delivery, message=self.delivery.message)
        if any(one.plugin == "dkim" for one in self.listener.take()):
            self.steps += signatures(self.delivery.message, "[remote]", self.way.place_of("dkim"))

    def route_steps(self, route: Route, settings: RemoteSettings) -> Iterator[Step]:
        """Yield what decided the route."""
        heard = [one.by for one in self.listener.take() if isinstance(one.answer, Route)]
        words = f"to {text(route.host)}, port {route.port}, by {route.protocol}"
        words += f", logged in as {text(route.login[0])}" if route.login else ""
        words += ", with TLS from the first byte" if route.tls is not None else ""
        entry = settings.routes.entry(self.delivery.host)
        if heard:
            yield Step(words, heard[0])
        elif entry is None:
            yield Step(f"no route: the MX records of {text(route.host)} decide", "control/smtproutes")
        else:
            key = text(entry[0]) or "every domain"
            place = mapped(self.way.home, "smtproutes", entry[0])
            what = f"{words}: the route for {key}" if entry[1] else f"DNS after all: the route for {key} is empty"
            yield Step(what, place)

    async def addresses(self, candidates: list[Candidate]) -> None:
        """Add a step for each address, and for what plugins say of it."""
        told: set[bytes] = set()
        usable = 0
        for one in candidates:
            name = text(one.host)
            is_dead = self.deliverer.tcpto.is_dead(one.address, time.time())
            what = f"{name} [{one.address}], preference {one.preference}"
            if is_dead:
                self.steps.append(
                    Step(f"{what}: it timed out lately and is left alone for an hour", "qmail-tcpto", Outcome.WARNING)
                )
                continue
            usable += await self.judged(one, what)
            if one.host not in told:
                told.add(one.host)
                self.steps += self.intentions(one.host)
        if candidates and not usable:
            self.steps.append(Step("no address can be tried now", outcome=Outcome.DEFERRED))

    async def judged(self, one: Candidate, what: str) -> bool:
        """Add the step of one address; return whether it would be tried."""
        verdict, source = None, None
        if self.plan.remote_policy is not None:
            verdict = await self.plan.remote_policy(delivery=self.delivery, host=one.host, address=one.address)
        if self.plan.remote_source is not None:
            source = await self.plan.remote_source(delivery=self.delivery, address=one.address)
        try:
            record = heed(verdict)
        except NextHost as error:
            self.steps.append(
                Step(f"{what}: passed over: {text(error.record[1:]).strip()}", self.heard_names(), Outcome.WARNING)
            )
            return False
        if record is not None:
            self.steps.append(failed(record, self.heard_names()))
            return False
        if source:
            greets = f", greeting as {text(source[1])}" if source[1] else ""
            self.steps.append(Step(f"{what}, from {source[0]}{greets}", self.heard_names()))
        else:
            self.steps.append(Step(what, "DNS" if self.delivery.host != one.address.encode() else ""))
        return True

    def intentions(self, host: bytes) -> Iterator[Step]:
        """Yield what plugins mean to do with a host."""
        if self.plan.remote_explain is None:
            return
        self.listener.take()
        said = self.plan.remote_explain(delivery=self.delivery, host=host)
        names: Mapping[str, str] = {str(line): one.plugin for one in self.listener.take() for line in one.answer or ()}
        for line in said:
            name = names[line]
            yield Step(f"{text(host)}: {line}", f"plugin {name} in [remote], {self.way.place_of(name)}")
