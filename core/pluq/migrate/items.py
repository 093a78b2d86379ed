"""One item for each control file, variable, service, user table and .qmail file: what becomes of it, and why.

carried       pluq reads the same file or variable with the same meaning
changed       the effect is kept in another form
not_carried   known, but lost, or the value cannot be used
unused        nothing at this site reads it or lets it act
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pluq.config.settings import Declaration
from pluq.migrate import chain as chains
from pluq.migrate import known, superservers, values
from pluq.migrate.dotqmail import dotqmail_files
from pluq.migrate.fates import (
    CARRIED,
    CHANGED,
    CORE_CARRIED,
    CORE_RULES,
    EPHEMERAL,
    FIXED_FILES,
    FOLDERS,
    KEPT,
    LOST,
    NOT_CARRIED,
    OFF,
    READ_BY,
    UNUSED,
    WHY,
    doing,
)  # fmt: skip
from pluq.migrate.needs import Profile
from pluq.migrate.profiles import Catalogue, from_environment, weak_ciphers
from pluq.migrate.recognise import LETTERS, all_rules, fork
from pluq.migrate.rules import Rules
from pluq.migrate.services import Service, Setting
from pluq.migrate.survey import BACKUP, Control, Survey, relative
from pluq.migrate.tree import FILE, FOLDER
from pluq.store.inventory import CORE, NONE, SERVICE, find_control_file


@dataclass(frozen=True, slots=True)
class Item:
    kind: str
    name: str
    source: str
    status: str
    detail: str = ""


class Items:
    """Makes the items of a site."""

    def __init__(self, survey: Survey, profiles: list[Profile], catalogue: Catalogue) -> None:
        self.survey = survey
        self.profiles = profiles
        self.catalogue = catalogue
        self.fork = fork(survey)[0]
        self.letters = set(LETTERS[self.fork])
        self.needed = {name for profile in profiles for name in profile.needs}
        self.rules = all_rules(survey)

    def all(self) -> list[Item]:
        found = [*self.controls(), *self.environment(), *self.rule_items(), *self.services(), *self.queue()]
        found += [*self.users(), *self.dotqmail()]
        unique = {(item.kind, item.name, item.source.partition(":")[0]): item for item in reversed(found)}
        return list(reversed(unique.values()))

    @property
    def regular_expressions(self) -> bool:
        return bool(self.letters & set("STJG")) or self.survey.number("qregex") == 1

    # -- control files

    def is_rules(self, control: Control) -> bool:
        paths = {path for rules in self.rules for path in (rules.text, rules.compiled)}
        return control.path in paths or bool(re.fullmatch(r"tcp\.[\w.-]+", control.name))

    def controls(self) -> Iterator[Item]:
        for control in self.survey.controls.values():
            if not self.is_rules(control):
                status, detail = self.control_status(control)
                yield Item("control", control.name, relative(control.path), status, detail)

    def control_status(self, control: Control) -> tuple[str, str]:
        if control.entry.kind != FILE and not (control.entry.kind == FOLDER and self._is_folder(control.name)):
            return NOT_CARRIED, f"{WHY.get(control.entry.kind, 'it cannot be read')}; nothing of it can be used"
        if not control.usable and control.entry.kind == FILE:
            return NOT_CARRIED, "it cannot be opened"
        if control.name in FIXED_FILES:
            return FIXED_FILES[control.name]
        if EPHEMERAL.fullmatch(control.name):
            return UNUSED, "key exchange needs no such file any more"
        entry = find_control_file(control.name)
        if entry is None and known.control_file(control.name) is None:
            return self._unknown_control(control)
        if control.crlf:
            return NOT_CARRIED, "its lines end in CRLF, and the CR would belong to each value; remove the CRs"
        wrong = values.faults(control, self.regular_expressions)
        if wrong and control.name not in values.PATTERN_FILES:
            return NOT_CARRIED, f"line {wrong[0][0]}: {wrong[0][1]}; correct it"
        if control.name == "tlsserverciphers" and weak_ciphers(control.text):
            return CHANGED, "it lets broken ciphers in; tls.ciphers of the profiles says DEFAULT instead"
        if control.name == "tlsclientciphers" and weak_ciphers(control.text):
            return CHANGED, "it lets broken ciphers in; tls.client_ciphers of [remote] says DEFAULT instead"
        return self._owned_control(control, entry.owner if entry else NONE)

    def _is_folder(self, name: str) -> bool:
        return name in FOLDERS or find_control_file(name) is None

    def _unknown_control(self, control: Control) -> tuple[str, str]:
        if BACKUP.fullmatch(control.name):
            return UNUSED, "a copy that an editor or a package left"
        if self.read_by_script(control):
            return CHANGED, "a script or program of the site reads it; what a port takes from it stands in its profile"
        return UNUSED, "nothing known reads it"

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

    def _owned_control(self, control: Control, owner: str) -> tuple[str, str]:
        if not self.fork_reads(control.name):
            return UNUSED, f"{self.fork} does not read it"
        if owner == CORE:
            return CARRIED, ""
        if owner == SERVICE:
            return CHANGED, "read by the run scripts; the profiles of pluq.toml have its value"
        if owner == NONE:
            return NOT_CARRIED, "pluq has nothing for it"
        if control.name == "recipients":
            return NOT_CARRIED, "write the recipients to control/validrcptto, or let rcptcheck.existence look for them"
        if control.name == "maxrecipients" and "rcptcheck" in self.needed:
            return CHANGED, "rcptcheck.maxrcpt of the profiles"
        if owner == "badmail" and control.name == "badmailfrom" and owner not in self.needed:
            return CARRIED, ""
        if control.name == "databytes":
            return CARRIED, ""
        if control.name == "smtproutes":
            return CARRIED, ""
        return self._plugin_status(owner, control.name)

    def fork_reads(self, name: str) -> bool:
        reader = known.control_file(name)
        if reader and self.letters & set(reader.forks):
            return True
        return os.fsencode(f"control/{name}") in self.survey.all_words or self.read_by_name(name)

    def read_by_name(self, name: str) -> bool:
        control = self.survey.controls.get(name)
        return control is not None and self.read_by_script(control)

    def _plugin_status(self, owner: str, name: str) -> tuple[str, str]:
        active = [plugin for plugin in doing(owner) if plugin in self.needed]
        if not active:
            return UNUSED, f"nothing switches it on (plugin {owner})"
        installed = [plugin for plugin in active if plugin in self.catalogue]
        if not installed:
            return NOT_CARRIED, f"it needs the plugin {active[0]}, which is not installed"
        if any(plugin not in READ_BY or name in READ_BY[plugin].split() for plugin in installed):
            return CARRIED, ""
        if any(one.control == name for plugin in installed for one in self.catalogue[plugin]):
            return CARRIED, ""
        return NOT_CARRIED, f"the plugin {installed[0]} does not read it"

    # -- variables

    def environment(self) -> Iterator[Item]:
        for service in self.survey.services:
            profile = self._profile_of(service)
            for launch in service.launches:
                for name, setting in launch.environment.items():
                    yield from self._variable(name, setting, service, profile)
                for name, setting in launch.dropped.items():
                    if name not in launch.environment and name not in known.CORE_VARIABLES:
                        yield self._item(name, setting, UNUSED, "env - takes it away again")
            if not service.launches:
                for (name, path), variable in service.outcome.assigned.items():
                    if variable.exported:
                        yield self._item(
                            name,
                            Setting("", path, variable.line),
                            NOT_CARRIED,
                            "its script starts nothing that is understood",
                        )
            yield from self._fragments(service)
        yield from self._rc_files()
        for name, number, clients in superservers.host_rules(self.survey.tree):
            why = f"for {clients[:80] or 'all clients'}; write it into a file of tcprules, which the profile names"
            yield self._item(name, Setting("", "/etc/hosts.allow", number), NOT_CARRIED, why)

    def _profile_of(self, service: Service) -> Profile | None:
        return next((profile for profile in self.profiles if service.name in profile.services), None)

    @staticmethod
    def _item(name: str, setting: Setting, status: str, detail: str) -> Item:
        source = relative(setting.path) + (f":{setting.line}" if setting.line else "")
        return Item("env", name, source, status, detail)

    def _variable(self, name: str, setting: Setting, service: Service, profile: Profile | None) -> Iterator[Item]:
        if name in known.CORE_VARIABLES:
            return
        yield self._item(name, setting, *self.variable_status(name, setting, service, profile))

    def variable_status(
        self, name: str, setting: Setting, service: Service, profile: Profile | None
    ) -> tuple[str, str]:
        if name in values.NUMBER_VARIABLES:
            why = values.number_fault(setting.value, *values.NUMBER_VARIABLES[name])
            if why:
                return NOT_CARRIED, f"{why}; correct it"
        if name in LOST:
            return LOST[name]
        if setting.value.strip().lower() in OFF.get(name, ()):
            return UNUSED, "it switches nothing"
        found = known.variable(name)
        for_others = found is None or name in known.SCRIPT_VARIABLES or not self.letters & set(found.forks)
        if found is None or (for_others and name in service.outcome.expanded):
            if name in known.SCRIPT_VARIABLES or name in service.outcome.expanded:
                return UNUSED, "only the script itself uses it"
            return NOT_CARRIED, "nothing known reads it"
        if found.owner == "service":
            return CHANGED, "its effect stands in the profiles of pluq.toml"
        if profile is None:
            return self._elsewhere(name, found.owner, service)
        if name == "RELAYCLIENT":
            return NOT_CARRIED, "every client of this port could relay; give it to addresses in tcprules instead"
        if name == "DATABYTES" and "size" not in profile.needs:
            return NOT_CARRIED, "write the number into control/databytes, or into a rule"
        return self._in_profile(name, found, profile)

    def _elsewhere(self, name: str, owner: str, service: Service) -> tuple[str, str]:
        """A variable of a service that is no SMTP listener: qmail-send, POP3, or one that is down."""
        if service.down:
            return UNUSED, "the service is down"
        if name in CORE_CARRIED:
            if name == "QMAILREMOTE" and "dkim" in self.needed:
                return CHANGED, "the plugin dkim of [remote] signs instead"
            return CARRIED, ""
        if owner == "core":
            return CARRIED, ""
        if owner in self.needed and owner in self.catalogue:
            return CHANGED, f"the plugin {owner} does it; see pluq.toml"
        if name in KEPT and owner in ("tls", "auth"):
            return CARRIED, ""
        return NOT_CARRIED, f"pluq has nothing for it outside of SMTP (plugin {owner})"

    def _in_profile(self, name: str, found: known.Known, profile: Profile) -> tuple[str, str]:
        owner = found.owner
        counts = profile.listener is not None and profile.listener.counts_recipients
        if name in ("RCPTCHECK", "RCPTCHECKRELAYCLIENT") and counts:
            owner = "ratelimit"
        active = [plugin for plugin in doing(owner) if plugin in profile.needs]
        if owner == "core":
            return NOT_CARRIED, "a run script's variables reach no connection of pluq; see the settings of [core]"
        if not active:
            if owner == "tls" and name in ("DISABLETLS", "DENY_TLS", "FORCETLS"):
                return CHANGED, "the profile has no TLS"
            if owner == "auth":
                return UNUSED, "AUTH is not offered here"
            return UNUSED, f"nothing lets it act in this profile (plugin {owner})"
        if not any(plugin in self.catalogue for plugin in active):
            return NOT_CARRIED, f"it needs the plugin {active[0]}, which is not installed"
        return self._kept(name, active, profile)

    def _kept(self, name: str, active: list[str], profile: Profile) -> tuple[str, str]:
        for plugin in active:
            for declaration in self.catalogue.get(plugin, ()):
                if declaration.env == name and self._has_value(profile, plugin, declaration, name):
                    return CHANGED, f"{plugin}.{declaration.name} of the profile {profile.name}"
        if name in KEPT:
            return CHANGED, KEPT[name]
        if active[0] in ("spp", "qmailqueue", "qfilter", "rcptcheck"):
            return CHANGED, "read by the program itself; give it to the environment of pluq"
        return NOT_CARRIED, f"the plugin {active[0]} has no setting for it"

    @staticmethod
    def _has_value(profile: Profile, plugin: str, declaration: Declaration, name: str) -> bool:
        """Say whether a setting of the profile is what the variable says, be it by default."""
        one = profile.listener
        written = declaration.name in profile.settings.get(plugin, {})
        return written or (one is not None and from_environment(one, declaration) == declaration.default)

    def _fragments(self, service: Service) -> Iterator[Item]:
        """The shell variables of conf-* fragments."""
        for (name, path), variable in service.outcome.assigned.items():
            if not re.search(r"/conf-[a-z0-9]+$", path) or name in known.CORE_VARIABLES:
                continue
            setting = Setting(variable.value, self.survey.tree.real_folder(path), variable.line)
            found = known.variable(name)
            if found and found.owner == "service":
                detail = (
                    "logs are the business of multilog as before"
                    if name.startswith("LOG_")
                    else "see the profiles of pluq.toml"
                )
                yield self._item(name, setting, CHANGED, detail)
            elif not variable.exported and found and found.owner not in ("service", "core"):
                yield self._item(name, setting, UNUSED, "never exported, so no program sees it")
            elif not variable.exported:
                yield self._item(name, setting, UNUSED, "only the scripts use it")

    def _rc_files(self) -> Iterator[Item]:
        """Variables in Gentoo's env.d."""
        for file in self.survey.tree.names("/etc/env.d"):
            path = f"/etc/env.d/{file}"
            if "qmail" not in file:
                continue
            for number, line in enumerate(self.survey.text_of(path).splitlines(), 1):
                found = re.match(r"(?:export )?([A-Z_][A-Z0-9_]*)=", line)
                if found and known.variable(found[1]):
                    yield self._item(found[1], Setting("", path, number), CHANGED, "pluq finds its home by PLUQ_HOME")

    # -- rules

    def rule_items(self) -> Iterator[Item]:
        for rules in self.rules:
            yield Item("service", rules.source.rpartition("/")[2], relative(rules.source), *self._rules_status(rules))
            if rules.cdb_fault:
                yield Item(
                    "service",
                    rules.compiled.rpartition("/")[2],
                    relative(rules.compiled),
                    NOT_CARRIED,
                    "not a cdb; compile the rules anew",
                )
            readers = [one for one in self.profiles if one.listener and one.listener.rules is rules]
            names = dict.fromkeys(name for rule in rules.rules for name, _ in rule.variables)
            for name in names:
                yield Item("env", name, relative(rules.source), *self._rule_variable(name, rules, readers))
        yield from self._other_rules()

    def _rules_status(self, rules: Rules) -> tuple[str, str]:
        if rules.faults and rules.text:
            return CHANGED, f"line {rules.faults[0][0]}: {rules.faults[0][1]}"
        return CARRIED, ""

    def _other_rules(self) -> Iterator[Item]:
        """Rules files that no service reads."""
        used = {path for rules in self.rules for path in (rules.text, rules.compiled)}
        for folder in (
            self.survey.tree.entry(self.survey.control).real,
            "/etc",
            "/etc/tcprules.d",
            "/etc/indimail/tcp",
        ):
            for name in self.survey.tree.names(folder):
                path = f"{folder}/{name}"
                rules = re.fullmatch(r"tcp\.[\w-]+(\.[\w-]+)?", name) and not name.endswith(".cdb")
                if rules and path not in used and self.survey.tree.is_file(path):
                    yield Item("service", name, relative(path), UNUSED, "no service reads it")

    def _rule_variable(self, name: str, rules: Rules, readers: list[Profile]) -> tuple[str, str]:
        if name in CORE_RULES:
            bad = [v for v in rules.values(name) if name == "DATABYTES" and values.number_fault(v, 0, 1 << 53)]
            return (NOT_CARRIED, "a value that is no number") if bad else (CARRIED, "")
        if name in LOST:
            return LOST[name]
        found = known.variable(name)
        if found is None:
            return NOT_CARRIED, "nothing known reads it"
        owner = found.owner
        plugins = doing(owner)
        active = [plugin for plugin in plugins if any(plugin in profile.needs for profile in readers)]
        if not active:
            return (
                (CARRIED, "")
                if not readers
                else (UNUSED, f"nothing lets it act at the ports that read these rules (plugin {owner})")
            )
        installed = [plugin for plugin in active if plugin in self.catalogue]
        if not installed:
            return NOT_CARRIED, f"it needs the plugin {active[0]}, which is not installed"
        if any(one.env == name for plugin in installed for one in self.catalogue[plugin]):
            return CARRIED, ""
        return (CHANGED, KEPT[name]) if name in KEPT else (NOT_CARRIED, f"the plugin {installed[0]} does not read it")

    # -- services, queue, users

    def services(self) -> Iterator[Item]:
        for service in self.survey.services:
            status, detail = self._service_status(service)
            yield Item("service", service.name, relative(service.run), status, detail)
        for service in self.survey.services:
            for launch in service.launches:
                for path in _configuration(launch.chain):
                    if self.survey.tree.entry(path).kind in (FILE, FOLDER):
                        name = path.rpartition("/")[2]
                        yield Item(
                            "service",
                            name,
                            relative(path),
                            NOT_CARRIED,
                            "of a program that pluq stands for in part; see the warnings",
                        )

    def _service_status(self, service: Service) -> tuple[str, str]:
        if service.outcome.faults and not service.launches:
            fault = service.outcome.faults[0]
            return NOT_CARRIED, f"line {fault.line}: {fault.why}"
        if service.down:
            return UNUSED, "the service is down, so no port is opened for it"
        profile = self._profile_of(service)
        if profile:
            return CHANGED, f"the profile {profile.name} of pluq.toml; pluq serve listens"
        names = [step.name for launch in service.launches for step in launch.chain.steps]
        if any(True for _ in service.listeners):
            return NOT_CARRIED, "its port is taken by another service, or is not known"
        if "qmail-start" in names or "rc" in names or "qmail-send" in names or "qmail-daemon" in names:
            return CHANGED, "pluq serve runs the scheduler and the deliveries"
        if any(name.startswith("qmail-") for name in names):
            return CARRIED, ""
        if not service.launches:
            return UNUSED, "it starts nothing"
        return UNUSED, "no part of qmail; it goes on as it is"

    def queue(self) -> Iterator[Item]:
        folders = self.survey.queue_folders
        if folders:
            special = len(folders) > 1
            detail = "several queues; drain them first" if special else ""
            yield Item("service", "queue", relative(folders[0]), NOT_CARRIED if special else CARRIED, detail)

    def users(self) -> Iterator[Item]:
        folder = self.survey.tree.entry(f"{self.survey.home}/users").real
        for name in ("assign", "cdb"):
            path = f"{folder}/{name}"
            if self.survey.tree.entry(path).kind == "missing":
                continue
            status, detail = CARRIED, ""
            if not self.survey.tree.is_file(path):
                status, detail = NOT_CARRIED, "it cannot be read"
            elif name == "assign" and (wrong := values.assign_faults(self.survey.text_of(path))):
                status, detail = NOT_CARRIED, f"line {wrong[0][0]}: {wrong[0][1]}; correct it"
            yield Item("user", f"users/{name}", relative(path), status, detail)

    def dotqmail(self) -> Iterator[Item]:
        for path in dotqmail_files(self.survey):
            name = relative(path)
            if not self.survey.tree.is_file(path):
                entry = self.survey.tree.entry(path)
                yield Item("dotqmail", name, name, NOT_CARRIED, WHY.get(entry.kind, "it cannot be read"))
            elif "srsfilter" in self.survey.text_of(path) and "srs" in self.needed:
                yield Item("dotqmail", name, name, CHANGED, "the plugin srs takes bounces back; this file may stay")
            else:
                yield Item("dotqmail", name, name, CARRIED, "")


def _configuration(chain: chains.Chain) -> Iterator[str]:
    """Yield the configuration files of programs in a chain."""
    for step in chain.steps:
        if step.name == "spamdyke":
            yield from (value for name, value in step.repeated if name in ("f", "config-file"))
        elif step.name in chains.OTHER_RULES:
            yield from (step.options[letter] for letter in "ix" if letter in step.options)
