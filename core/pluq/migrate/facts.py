"""What is known of a site before anything is said of it: what items and warnings ask."""

from __future__ import annotations

import os
import re

from pluq.migrate import known
from pluq.migrate.needs import Profile
from pluq.migrate.profiles import Catalogue
from pluq.migrate.recognise import LETTERS, all_rules, fork
from pluq.migrate.services import Service
from pluq.migrate.survey import Control, Survey


class Facts:
    """A site, the profiles that it gets, and the plugins that are installed.

    `fork` is the qmail that was installed and `letters` what marks it in the tables of pluq.migrate.known; `needed` are the plugins that any
    profile needs.
    """

    def __init__(self, survey: Survey, profiles: list[Profile], catalogue: Catalogue) -> None:
        self.survey = survey
        self.profiles = profiles
        self.catalogue = catalogue
        self.fork = fork(survey)[0]
        self.letters = set(LETTERS[self.fork])
        self.needed = {name for profile in profiles for name in profile.needs}
        self.rules = all_rules(survey)

    @property
    def regular_expressions(self) -> bool:
        """Whether its badmailfrom and the like hold patterns."""
        return bool(self.letters & set("STJG")) or self.survey.number("qregex") == 1

    def profile_of(self, service: Service) -> Profile | None:
        return next((profile for profile in self.profiles if service.name in profile.services), None)

    def is_rules(self, control: Control) -> bool:
        paths = {path for rules in self.rules for path in (rules.text, rules.compiled)}
        return control.path in paths or bool(re.fullmatch(r"tcp\.[\w.-]+", control.name))

    def read_by_script(self, control: Control) -> bool:
        """Say whether a script of the site reads a file: with cat, by name in an environment or a command line."""
        for service in self.survey.services:
            paths = [*service.outcome.read, *service.outcome.sourced]
            for launch in service.launches:
                paths += [one.value for one in launch.environment.values()]
                paths += [word for step in launch.chain.steps for word in (*step.arguments, *step.options.values())]
                paths += [one.path for one in launch.environment.values()]
            if any(
                path.rstrip("/").endswith(f"/{control.name}") or path.startswith(f"{control.path}/") for path in paths
            ):
                return True
        return os.fsencode(f"control/{control.name}") in self.survey.all_words

    def fork_reads(self, name: str) -> bool:
        """Say whether the qmail that was installed, or a program or script of the site, reads a control file."""
        reader = known.control_file(name)
        if reader and self.letters & set(reader.forks):
            return True
        return os.fsencode(f"control/{name}") in self.survey.all_words or self.read_by_name(name)

    def read_by_name(self, name: str) -> bool:
        control = self.survey.controls.get(name)
        return control is not None and self.read_by_script(control)
