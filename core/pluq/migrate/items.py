"""One item for each control file, variable, service, user table and .qmail file: what becomes of it, and why.

carried       pluq reads the same file or variable with the same meaning
changed       the effect is kept in another form
not_carried   known, but lost, or the value cannot be used
unused        nothing at this site reads it or lets it act
"""

from __future__ import annotations

from collections.abc import Iterator

from pluq.migrate import chain as chains
from pluq.migrate import values
from pluq.migrate.dotqmail import dotqmail_files
from pluq.migrate.facts import Facts
from pluq.migrate.fates import (
    CARRIED,
    CHANGED,
    NOT_CARRIED,
    UNUSED,
    WHY,
)
from pluq.migrate.item import Item
from pluq.migrate.items_control import controls
from pluq.migrate.items_variable import environment, rule_items
from pluq.migrate.services import Service
from pluq.migrate.survey import relative
from pluq.migrate.tree import FILE, FOLDER


def all_items(facts: Facts) -> list[Item]:
    """Return the items of a site; of one thing that is found twice, the first."""
    found = [*controls(facts), *environment(facts), *rule_items(facts), *services(facts), *queue(facts)]
    found += [*users(facts), *dotqmail(facts)]
    unique = {(item.kind, item.name, item.source.partition(":")[0]): item for item in reversed(found)}
    return list(reversed(unique.values()))


def services(facts: Facts) -> Iterator[Item]:
    for service in facts.survey.services:
        status, detail = _service_status(facts, service)
        yield Item("service", service.name, relative(service.run), status, detail)
    for service in facts.survey.services:
        for launch in service.launches:
            for path in _configuration(launch.chain):
                if facts.survey.tree.entry(path).kind in (FILE, FOLDER):
                    name = path.rpartition("/")[2]
                    yield Item(
                        "service",
                        name,
                        relative(path),
                        NOT_CARRIED,
                        "of a program that pluq stands for in part; see the warnings",
                    )


def _service_status(facts: Facts, service: Service) -> tuple[str, str]:
    if service.outcome.faults and not service.launches:
        fault = service.outcome.faults[0]
        return NOT_CARRIED, f"line {fault.line}: {fault.why}"
    if service.down:
        return UNUSED, "the service is down, so no port is opened for it"
    profile = facts.profile_of(service)
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


def queue(facts: Facts) -> Iterator[Item]:
    folders = facts.survey.queue_folders
    if folders:
        special = len(folders) > 1
        detail = "several queues; drain them first" if special else ""
        yield Item("service", "queue", relative(folders[0]), NOT_CARRIED if special else CARRIED, detail)


def users(facts: Facts) -> Iterator[Item]:
    folder = facts.survey.tree.entry(f"{facts.survey.home}/users").real
    for name in ("assign", "cdb"):
        path = f"{folder}/{name}"
        if facts.survey.tree.entry(path).kind == "missing":
            continue
        status, detail = CARRIED, ""
        if not facts.survey.tree.is_file(path):
            status, detail = NOT_CARRIED, "it cannot be read"
        elif name == "assign" and (wrong := values.assign_faults(facts.survey.text_of(path))):
            status, detail = NOT_CARRIED, f"line {wrong[0][0]}: {wrong[0][1]}; correct it"
        yield Item("user", f"users/{name}", relative(path), status, detail)


def dotqmail(facts: Facts) -> Iterator[Item]:
    for path in dotqmail_files(facts.survey):
        name = relative(path)
        if not facts.survey.tree.is_file(path):
            entry = facts.survey.tree.entry(path)
            yield Item("dotqmail", name, name, NOT_CARRIED, WHY.get(entry.kind, "it cannot be read"))
        elif "srsfilter" in facts.survey.text_of(path) and "srs" in facts.needed:
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
