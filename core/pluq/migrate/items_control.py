"""What becomes of each control file, and why."""

from __future__ import annotations

from collections.abc import Iterator

from pluq.migrate import known, values
from pluq.migrate.facts import Facts
from pluq.migrate.fates import (
    CARRIED,
    CHANGED,
    EPHEMERAL,
    FIXED_FILES,
    FOLDERS,
    NOT_CARRIED,
    READ_BY,
    UNUSED,
    WHY,
    doing,
)
from pluq.migrate.item import Item
from pluq.migrate.profiles import weak_ciphers
from pluq.migrate.survey import BACKUP, Control, relative
from pluq.migrate.tree import FILE, FOLDER
from pluq.store.inventory import CORE, NONE, SERVICE, find_control_file


def controls(facts: Facts) -> Iterator[Item]:
    for control in facts.survey.controls.values():
        if not facts.is_rules(control):
            status, detail = control_status(facts, control)
            yield Item("control", control.name, relative(control.path), status, detail)


def control_status(facts: Facts, control: Control) -> tuple[str, str]:
    if control.entry.kind != FILE and not (control.entry.kind == FOLDER and may_be_folder(control.name)):
        return NOT_CARRIED, f"{WHY.get(control.entry.kind, 'it cannot be read')}; nothing of it can be used"
    if not control.usable and control.entry.kind == FILE:
        return NOT_CARRIED, "it cannot be opened"
    if control.name in FIXED_FILES:
        return FIXED_FILES[control.name]
    if EPHEMERAL.fullmatch(control.name):
        return UNUSED, "key exchange needs no such file any more"
    entry = find_control_file(control.name)
    if entry is None and known.control_file(control.name) is None:
        return _unknown_control(facts, control)
    if control.crlf:
        return NOT_CARRIED, "its lines end in CRLF, and the CR would belong to each value; remove the CRs"
    wrong = values.faults(control, facts.regular_expressions)
    if wrong and control.name not in values.PATTERN_FILES:
        return NOT_CARRIED, f"line {wrong[0][0]}: {wrong[0][1]}; correct it"
    if control.name == "tlsserverciphers" and weak_ciphers(control.text):
        return CHANGED, "it lets broken ciphers in; tls.ciphers of the profiles says DEFAULT instead"
    if control.name == "tlsclientciphers" and weak_ciphers(control.text):
        return CHANGED, "it lets broken ciphers in; tls.client_ciphers of [remote] says DEFAULT instead"
    return _owned_control(facts, control, entry.owner if entry else NONE)


def may_be_folder(name: str) -> bool:
    """Say whether a folder by this name in control is nothing strange."""
    return name in FOLDERS or find_control_file(name) is None


def _unknown_control(facts: Facts, control: Control) -> tuple[str, str]:
    if BACKUP.fullmatch(control.name):
        return UNUSED, "a copy that an editor or a package left"
    if facts.read_by_script(control):
        return CHANGED, "a script or program of the site reads it; what a port takes from it stands in its profile"
    return UNUSED, "nothing known reads it"


def _owned_control(facts: Facts, control: Control, owner: str) -> tuple[str, str]:
    if not facts.fork_reads(control.name):
        return UNUSED, f"{facts.fork} does not read it"
    if owner == CORE:
        return CARRIED, ""
    if owner == SERVICE:
        return CHANGED, "read by the run scripts; the profiles of pluq.toml have its value"
    if owner == NONE:
        return NOT_CARRIED, "pluq has nothing for it"
    if control.name == "recipients":
        return NOT_CARRIED, "write the recipients to control/validrcptto, or let rcptcheck.existence look for them"
    if control.name == "maxrecipients" and "rcptcheck" in facts.needed:
        return CHANGED, "rcptcheck.maxrcpt of the profiles"
    if owner == "badmail" and control.name == "badmailfrom" and owner not in facts.needed:
        return CARRIED, ""
    if control.name in ("databytes", "smtproutes"):
        return CARRIED, ""
    return _plugin_status(facts, owner, control.name)


def _plugin_status(facts: Facts, owner: str, name: str) -> tuple[str, str]:
    active = [plugin for plugin in doing(owner) if plugin in facts.needed]
    if not active:
        return UNUSED, f"nothing switches it on (plugin {owner})"
    installed = [plugin for plugin in active if plugin in facts.catalogue]
    if not installed:
        return NOT_CARRIED, f"it needs the plugin {active[0]}, which is not installed"
    if any(plugin not in READ_BY or name in READ_BY[plugin].split() for plugin in installed):
        return CARRIED, ""
    if any(one.control == name for plugin in installed for one in facts.catalogue[plugin]):
        return CARRIED, ""
    return NOT_CARRIED, f"the plugin {installed[0]} does not read it"
