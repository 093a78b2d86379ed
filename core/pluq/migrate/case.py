"""What warnings are made from: the survey, what was decided, and small words that several of them need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from pluq.migrate import rules
from pluq.migrate.facts import Facts
from pluq.migrate.listener import Listener
from pluq.migrate.needs import Profile
from pluq.migrate.services import Launch, Service, Setting
from pluq.migrate.survey import Survey, relative

Details = Iterator[str]


@dataclass
class Case:
    """What the warnings are about."""

    survey: Survey
    facts: Facts
    listeners: list[Listener]
    profiles: list[Profile]
    clashes: list[tuple[str, str, str]]
    missing: dict[str, list[str]]

    @property
    def fork(self) -> str:
        return self.facts.fork

    @cached_property
    def environments(self) -> list[tuple[Service, Launch]]:
        return list(self.survey.launches)

    def every(self, *names: str) -> Iterator[tuple[str, Setting]]:
        for name in names:
            for _, _, setting in self.survey.settings(name):
                yield name, setting


def place(setting: Setting) -> str:
    return relative(setting.path) + (f":{setting.line}" if setting.line else "")


def rules_of(case: Case) -> list[rules.Rules]:
    return case.facts.rules


def port(one: Listener) -> str:
    return (one.address or "").rpartition(":")[2]
