"""What becomes of each variable, and why: of run scripts, their fragments, and rules (tcprules)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pluq.config.settings import Declaration
from pluq.migrate import known, superservers, values
from pluq.migrate.facts import Facts
from pluq.migrate.fates import (
    CARRIED,
    CHANGED,
    CORE_CARRIED,
    CORE_RULES,
    KEPT,
    LOST,
    NOT_CARRIED,
    OFF,
    UNUSED,
    doing,
)
from pluq.migrate.item import Item
from pluq.migrate.needs import Profile
from pluq.migrate.profiles import from_environment
from pluq.migrate.rules import Rules
from pluq.migrate.services import Service, Setting
from pluq.migrate.survey import relative


def environment(facts: Facts) -> Iterator[Item]:
    for service in facts.survey.services:
        yield from _of_launches(facts, service) if service.launches else _of_no_launch(service)
        yield from _fragments(facts, service)
    yield from _rc_files(facts)
    for name, number, clients in superservers.host_rules(facts.survey.tree):
        why = f"for {clients[:80] or 'all clients'}; write it into a file of tcprules, which the profile names"
        yield _item(name, Setting("", "/etc/hosts.allow", number), NOT_CARRIED, why)


def _of_launches(facts: Facts, service: Service) -> Iterator[Item]:
    """The variables that a service gives to what it starts, and those that it takes away again."""
    profile = facts.profile_of(service)
    for launch in service.launches:
        for name, setting in launch.environment.items():
            if name not in known.CORE_VARIABLES:
                yield _item(name, setting, *variable_status(facts, name, setting, service, profile))
        for name, setting in launch.dropped.items():
            if name not in launch.environment and name not in known.CORE_VARIABLES:
                yield _item(name, setting, UNUSED, "env - takes it away again")


def _of_no_launch(service: Service) -> Iterator[Item]:
    for (name, path), variable in service.outcome.assigned.items():
        if variable.exported:
            setting = Setting("", path, variable.line)
            yield _item(name, setting, NOT_CARRIED, "its script starts nothing that is understood")


def _item(name: str, setting: Setting, status: str, detail: str) -> Item:
    source = relative(setting.path) + (f":{setting.line}" if setting.line else "")
    return Item("env", name, source, status, detail)


def variable_status(
    facts: Facts, name: str, setting: Setting, service: Service, profile: Profile | None
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
    for_others = found is None or name in known.SCRIPT_VARIABLES or not facts.letters & set(found.forks)
    if found is None or (for_others and name in service.outcome.expanded):
        if name in known.SCRIPT_VARIABLES or name in service.outcome.expanded:
            return UNUSED, "only the script itself uses it"
        return NOT_CARRIED, "nothing known reads it"
    if found.owner == "service":
        return CHANGED, "its effect stands in the profiles of pluq.toml"
    if profile is None:
        return _elsewhere(facts, name, found.owner, service)
    if name == "RELAYCLIENT":
        return NOT_CARRIED, "every client of this port could relay; give it to addresses in tcprules instead"
    if name == "DATABYTES" and "size" not in profile.needs:
        return NOT_CARRIED, "write the number into control/databytes, or into a rule"
    return _in_profile(facts, name, found, profile)


def _elsewhere(facts: Facts, name: str, owner: str, service: Service) -> tuple[str, str]:
    """A variable of a service that is no SMTP listener: qmail-send, POP3, or one that is down."""
    if service.down:
        return UNUSED, "the service is down"
    if name in CORE_CARRIED:
        if name == "QMAILREMOTE" and "dkim" in facts.needed:
            return CHANGED, "the plugin dkim of [remote] signs instead"
        return CARRIED, ""
    if owner == "core":
        return CARRIED, ""
    if owner in facts.needed and owner in facts.catalogue:
        return CHANGED, f"the plugin {owner} does it; see pluq.toml"
    if name in KEPT and owner in ("tls", "auth"):
        return CARRIED, ""
    return NOT_CARRIED, f"pluq has nothing for it outside of SMTP (plugin {owner})"


def _in_profile(facts: Facts, name: str, found: known.Known, profile: Profile) -> tuple[str, str]:
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
    if not any(plugin in facts.catalogue for plugin in active):
        return NOT_CARRIED, f"it needs the plugin {active[0]}, which is not installed"
    return _kept(facts, name, active, profile)


def _kept(facts: Facts, name: str, active: list[str], profile: Profile) -> tuple[str, str]:
    for plugin in active:
        for declaration in facts.catalogue.get(plugin, ()):
            if declaration.env == name and _has_value(profile, plugin, declaration, name):
                return CHANGED, f"{plugin}.{declaration.name} of the profile {profile.name}"
    if name in KEPT:
        return CHANGED, KEPT[name]
    if active[0] in ("spp", "qmailqueue", "qfilter", "rcptcheck"):
        return CHANGED, "read by the program itself; give it to the environment of pluq"
    return NOT_CARRIED, f"the plugin {active[0]} has no setting for it"


def _has_value(profile: Profile, plugin: str, declaration: Declaration, name: str) -> bool:
    """Say whether a setting of the profile is what the variable says, be it by default."""
    one = profile.listener
    written = declaration.name in profile.settings.get(plugin, {})
    return written or (one is not None and from_environment(one, declaration) == declaration.default)


def _fragments(facts: Facts, service: Service) -> Iterator[Item]:
    """The shell variables of conf-* fragments."""
    for (name, path), variable in service.outcome.assigned.items():
        if not re.search(r"/conf-[a-z0-9]+$", path) or name in known.CORE_VARIABLES:
            continue
        setting = Setting(variable.value, facts.survey.tree.real_folder(path), variable.line)
        found = known.variable(name)
        if found and found.owner == "service":
            detail = (
                "logs are the business of multilog as before"
                if name.startswith("LOG_")
                else "see the profiles of pluq.toml"
            )
            yield _item(name, setting, CHANGED, detail)
        elif not variable.exported and found and found.owner not in ("service", "core"):
            yield _item(name, setting, UNUSED, "never exported, so no program sees it")
        elif not variable.exported:
            yield _item(name, setting, UNUSED, "only the scripts use it")


def _rc_files(facts: Facts) -> Iterator[Item]:
    """Variables in Gentoo's env.d."""
    for file in facts.survey.tree.names("/etc/env.d"):
        path = f"/etc/env.d/{file}"
        if "qmail" not in file:
            continue
        for number, line in enumerate(facts.survey.text_of(path).splitlines(), 1):
            found = re.match(r"(?:export )?([A-Z_][A-Z0-9_]*)=", line)
            if found and known.variable(found[1]):
                yield _item(found[1], Setting("", path, number), CHANGED, "pluq finds its home by PLUQ_HOME")


def rule_items(facts: Facts) -> Iterator[Item]:
    for rules in facts.rules:
        yield Item("service", rules.source.rpartition("/")[2], relative(rules.source), *_rules_status(facts, rules))
        if rules.cdb_fault:
            yield Item(
                "service",
                rules.compiled.rpartition("/")[2],
                relative(rules.compiled),
                NOT_CARRIED,
                "not a cdb; compile the rules anew",
            )
        readers = [one for one in facts.profiles if one.listener and one.listener.rules is rules]
        names = dict.fromkeys(name for rule in rules.rules for name, _ in rule.variables)
        for name in names:
            yield Item("env", name, relative(rules.source), *_rule_variable(facts, name, rules, readers))
    yield from _other_rules(facts)


def _rules_status(facts: Facts, rules: Rules) -> tuple[str, str]:
    if rules.faults and rules.text:
        return CHANGED, f"line {rules.faults[0][0]}: {rules.faults[0][1]}"
    return CARRIED, ""


def _other_rules(facts: Facts) -> Iterator[Item]:
    """Rules files that no service reads."""
    used = {path for rules in facts.rules for path in (rules.text, rules.compiled)}
    for folder in (
        facts.survey.tree.entry(facts.survey.control).real,
        "/etc",
        "/etc/tcprules.d",
        "/etc/indimail/tcp",
    ):
        for name in facts.survey.tree.names(folder):
            path = f"{folder}/{name}"
            rules = re.fullmatch(r"tcp\.[\w-]+(\.[\w-]+)?", name) and not name.endswith(".cdb")
            if rules and path not in used and facts.survey.tree.is_file(path):
                yield Item("service", name, relative(path), UNUSED, "no service reads it")


def _rule_variable(facts: Facts, name: str, rules: Rules, readers: list[Profile]) -> tuple[str, str]:
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
    installed = [plugin for plugin in active if plugin in facts.catalogue]
    if not installed:
        return NOT_CARRIED, f"it needs the plugin {active[0]}, which is not installed"
    if any(one.env == name for plugin in installed for one in facts.catalogue[plugin]):
        return CARRIED, ""
    return (CHANGED, KEPT[name]) if name in KEPT else (NOT_CARRIED, f"the plugin {installed[0]} does not read it")
