"""spp: programs written for the qmail-spp patch, at each command of the session, unchanged.

    connection ---> helo ---> auth ---> mail ---> rcpt (pass) ---> data

control/smtpplugins lists them by section. A program gets the variables of the connection and of the command and answers with lines
(output.py). It has a time limit, and only so many run at the same time; whoever has to wait too long for that is told to come back, as
is everybody when a program cannot be run, crashes or takes too long.

What the programs of a session have said is kept with the session: fields and refusals for later until RSET or the end of DATA,
variables to its end.

Source: qmail-spp 0.42 and its form in the combined patches; reference replies of patched qmail.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pluq import Defer, Login, Phase, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.children import Ended, is_function, run
from pluq.errors import ConfigError
from pluq.listen.fresh import Fresh
from pluq.store.control import read_lines
from pluq_spp.output import refusal
from pluq_spp.sections import Section, Sections, command_line, parse_sections
from pluq_spp.state import Answer, State

FILE = "control/smtpplugins"
EXEC_FAILED = 120
UNUSABLE = Reject(555, "5.5.4", "syntax error", once=True)
NO_RESULTS: Mapping[str, str | None] = {}
REFUSED = Defer(451, "4.3.0", "temporary local problem")


def is_on(text: str) -> bool:
    """ENABLE_SPP: any value, also an empty one, but 0."""
    return text.strip() != "0"


def is_set(text: str) -> bool:
    return True


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(
        False,
        env="ENABLE_SPP",
        parse_env=is_on,
        help="Run programs. Without it only connections that tcprules give ENABLE_SPP (not 0) have them; true is as qmail-spp 0.42.",
    )
    disabled: bool = setting(False, env="NOSPP", parse_env=is_set, help="Run none for this connection.")
    file: str = setting(FILE, env="SPPCONFFILE", help="The file that lists the programs, relative to the qmail home.")
    seconds: float = setting(
        20.0, unit="seconds", help="A program that runs longer is killed, and the client hears 451."
    )
    concurrency: int = setting(50, unit="programs", help="So many run at the same time in one process; others wait.")


class Spp(Plugin[Settings]):
    """Run qmail-spp programs at each command: they refuse, delay, rewrite, add fields and set variables."""

    name = "spp"
    permissions = frozenset({"relay"})
    budget = 100.0

    def __init__(self) -> None:
        self._files: dict[str, Fresh[Sections]] = {}

    @hook
    def check(self) -> Sequence[str]:
        """Name programs that are not there."""
        if not self.settings.enabled and not os.path.exists(self.path(self.settings)):
            return []
        entries = [entry for section in self.read(self.settings).values() for entry in section]
        return [
            f"{self.path(self.settings)}: {entry}: not a program that can be run"
            for entry in entries
            if not entry.startswith(":") and not os.access(os.path.join(self.context.home.path, entry), os.X_OK)
        ]

    @hook
    def start(self) -> None:
        self.places = asyncio.Semaphore(self.settings.concurrency)

    def path(self, settings: Settings) -> str:
        return os.path.join(self.context.home.path, settings.file or FILE)

    def read(self, settings: Settings) -> Sections:
        """Return what the list says now. Raises ConfigError where it cannot be read, also where there is none."""
        path = self.path(settings)
        if path not in self._files:
            self._files[path] = Fresh([path], lambda: read_sections(path), self.log)
        return self._files[path].get(time.monotonic())

    def state(self, session: Session) -> State:
        """Return what is known of a session. Raises ConfigError."""
        state = session.notes.get(self.name)
        if state is None:
            settings = self.settings_for(session)
            is_active = settings.enabled and not settings.disabled
            state = session.notes[self.name] = State(self.read(settings) if is_active else {})
        assert isinstance(state, State)
        return state

    # -- the commands

    @hook
    async def smtp_connect(self, session: Session) -> Verdict | None:
        return (await self.ask(session, Section.CONNECTION)).verdict

    @hook
    async def smtp_helo(self, session: Session, name: bytes) -> Verdict | None:
        answer = await self.ask(session, Section.HELO, SMTPHELOHOST=name)
        session.is_helo_vouched = answer.is_vouched
        return answer.verdict

    @hook
    async def smtp_auth(self, session: Session, login: Login) -> Verdict | None:
        mechanism = login.mechanism.lower().encode()
        return (await self.ask(session, Section.AUTH, SMTPAUTHMETHOD=mechanism, SMTPAUTHUSER=login.user)).verdict

    @hook
    async def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        refused = self.due(session, Phase.MAIL)
        if refused is not None:
            return refused
        self.state(session).recipients = 0
        answer = await self.ask(session, Section.MAIL, "SMTPMAILFROM", SMTPMAILFROM=transaction.sender)
        if answer.address is not None:
            transaction.sender = answer.address
        transaction.is_sender_vouched = answer.is_vouched
        return answer.verdict

    @hook
    async def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        refused = self.due(session, Phase.RCPT)
        if refused is not None:
            return refused
        state = self.state(session)
        state.recipients += 1
        answer = await self.ask(
            session,
            Section.RCPT,
            "SMTPRCPTTO",
            transaction.queue_environment,
            SMTPRCPTCOUNT=b"%d" % len(transaction.recipients),
            SMTPRCPTCOUNTALL=b"%d" % state.recipients,
            SMTPRCPTHOSTSOK=b"1" if recipient.allowed else b"0",
            SMTPRCPTTO=recipient.address,
        )
        if answer.address is not None:
            recipient.address = answer.address  # and rcpthosts has been asked: a program may send mail elsewhere
        if answer.is_vouched:
            recipient.is_vouched = recipient.allowed = True
        return answer.verdict

    @hook
    async def smtp_rcpt_allowed(
        self, session: Session, transaction: Transaction, recipient: Recipient
    ) -> Verdict | None:
        answer = await self.ask(
            session,
            Section.PASS,
            "SMTPRCPTTO",
            transaction.queue_environment,
            SMTPRCPTCOUNT=b"%d" % (len(transaction.recipients) + 1),
            SMTPRCPTTO=recipient.address + (session.relay_suffix or b""),
        )
        if answer.address is not None:
            recipient.address = answer.address
        return answer.verdict

    @hook
    async def smtp_data(self, session: Session, transaction: Transaction) -> Verdict | None:
        refused = self.due(session, Phase.DATA)
        if refused is not None:
            return refused
        answer = await self.ask(session, Section.DATA, "", transaction.queue_environment)
        if answer.verdict is None:
            state = self.state(session)
            state.has_data = True
            transaction.received_fields.extend(state.fields)
            transaction.queue_environment.update(state.variables)
        return answer.verdict

    @hook
    def smtp_command(self, session: Session, verb: bytes) -> None:
        if verb == b"RSET":
            self.state(session).clear()

    @hook
    def transaction_end(self, session: Session) -> None:
        state = session.notes.get(self.name)
        if isinstance(state, State) and state.has_data:
            state.clear()

    # -- programs

    def due(self, session: Session, phase: Phase) -> Verdict | None:
        """Return the refusal that a program gave for this command before, None if there is none."""
        lines = self.state(session).later.get(phase)
        if not lines:
            return None
        session.preface.extend(lines[:-1])
        return refusal(lines[-1]) or REFUSED

    async def ask(
        self,
        session: Session,
        section: Section,
        changes: str = "",
        results: Mapping[str, str | None] = NO_RESULTS,
        **variables: bytes,
    ) -> Answer:
        """Run the programs of a section, in order, until one says the last word.

        `variables` are those of the command; `changes` names the one that a C line changes; `results` are what other plugins found
        (SPFRESULT, RBLRESULT).
        """
        answer = Answer(session, self.state(session), results)
        if self.is_shadow:  # what programs would say cannot be known without running them
            return answer
        entries = answer.state.sections.get(section, ())
        if entries and any(is_function(value) for value in variables.values()):
            self.log(f"{session.remote_ip}: refused what an old shell would run")
            answer.verdict = UNUSABLE
            return answer
        if answer.state.sections:
            for name, value in variables.items():
                session.environment[name] = value.decode("utf-8", "surrogateescape")
        for entry in entries:
            await self.ask_one(entry, answer)
            if not changes:
                answer.address = None
            elif answer.address is not None:
                session.environment[changes] = answer.address.decode("utf-8", "surrogateescape")
            if answer.is_final:
                break
        return answer

    async def ask_one(self, entry: str, answer: Answer) -> None:
        """Run one program and do what it says."""
        try:
            ended = await self.run(entry, answer)
        except OSError as error:
            self.log(f"{entry}: {os.strerror(error.errno or 0)}")
            answer.fail(entry, "can't execute")
            return
        answer.obey(entry, ended.said[1])
        trouble = trouble_of(ended)
        if trouble is not None:
            self.log(f"{entry}: {trouble}")
            answer.fail(entry, trouble)

    async def run(self, entry: str, answer: Answer) -> Ended:
        """Run one program. Raises OSError where it cannot be started."""
        environment: dict[str, str | None] = {
            **os.environ,
            **answer.session.environment,
            **answer.results,
            **answer.state.variables,
        }
        async with self.places:
            return await run(
                command_line(entry),
                environment={name: value for name, value in environment.items() if value is not None},
                folder=self.context.home.path,
                seconds=self.settings.seconds,
            )


def read_sections(path: str) -> Sections:
    """Return what a list says. Raises ConfigError where it cannot be read, or is not there."""
    lines = read_lines(path)
    if lines is None:
        raise ConfigError(path, "missing: it lists the programs of spp")
    return parse_sections(lines)


def trouble_of(ended: Ended) -> str | None:
    """Return what went wrong with a program, in the words of the patch; other exit codes mean nothing."""
    if ended.is_late:
        return "took too long"
    if ended.code < 0:
        return "child crashed"
    return "can't execute" if ended.code == EXEC_FAILED else None
