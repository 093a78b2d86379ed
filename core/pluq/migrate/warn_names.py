"""Warnings of scripts, names, programs, and settings that exclude each other."""

from __future__ import annotations

import re

from pluq.migrate import known
from pluq.migrate.case import Case, Details, place, port, rules_of
from pluq.migrate.listener import Listener
from pluq.migrate.survey import BACKUP, relative
from pluq.migrate.tree import FILE


def unparsable(case: Case) -> Details:
    for service in case.survey.services:
        for fault in service.outcome.faults[:10]:
            yield f"{service.name}: {relative(fault.path)}:{fault.line}: {fault.why}"
    for service, launch in case.environments:
        if launch.chain.listener and launch.chain.server and Listener(case.survey, service, launch).address is None:
            yield f"{service.name}: {relative(service.run)}: where it listens is not known"


def unknown_control(case: Case) -> Details:
    from pluq.store.inventory import find_control_file

    for control in case.survey.controls.values():
        name = control.name
        if case.facts.is_rules(control) or BACKUP.fullmatch(name) or name in ("fixsmtpio", "authsender", "pluq.toml"):
            continue
        if (
            find_control_file(name) is None
            and known.control_file(name) is None
            and not case.facts.read_by_script(control)
        ):
            yield f"{relative(control.path)}: nothing known reads it"


def unknown_env(case: Case) -> Details:
    seen = set()
    for service, launch in case.environments:
        for name, setting in launch.environment.items():
            skipped = name in known.CORE_VARIABLES or name in known.SCRIPT_VARIABLES or name in service.outcome.expanded
            if known.variable(name) is None and not skipped and (name, setting.path) not in seen:
                seen.add((name, setting.path))
                yield f"{place(setting)}: {name} is read by nothing known"
    for one in rules_of(case):
        names = dict.fromkeys(name for rule in one.rules for name, _ in rule.variables)
        for name in names:
            if known.variable(name) is None:
                yield f"{relative(one.source)}: {name} is read by nothing known"


PROGRAM_VARIABLES = (
    "QMAILQUEUE",
    "DKIMQUEUE",
    "SURBLQUEUE",
    "DKQUEUE",
    "RCPTCHECK",
    "QMAILREMOTE",
    "QMAILLOCAL",
    "BOUNCEQUEUE",
)


def program_missing(case: Case) -> Details:
    survey = case.survey
    named: dict[str, str] = {}
    for name, setting in case.every(*PROGRAM_VARIABLES):
        path = setting.value if setting.value.startswith("/") else f"{survey.home}/{setting.value}"
        if setting.value and " " not in setting.value:
            named.setdefault(path, f"{place(setting)}: {name}")
    for one in rules_of(case):
        for name in PROGRAM_VARIABLES:
            for value in one.values(name):
                named.setdefault(value, f"{relative(one.source)}: {name}")
    for service, launch in case.environments:
        for step in launch.chain.steps:
            for word in (step.path, *(step.arguments if step.name.startswith("qmail-") else ())):
                if word.startswith(f"{survey.home}/bin/"):
                    named.setdefault(word, relative(service.run))
    for number, line in survey.lines("smtpplugins"):
        if not line.startswith(("[", ":")):
            path = line.split()[0]
            named.setdefault(path if path.startswith("/") else f"{survey.home}/{path}", f"control/smtpplugins:{number}")
    for path, where in named.items():
        if survey.missing_program(path):
            yield f"{where} names {relative(path)}, which is not there"


def no_postmaster(case: Case) -> Details:
    survey = case.survey
    if case.fork == "mini-qmail" or not survey.tree.is_folder(survey.alias):
        return
    if survey.tree.entry(f"{survey.alias}/.qmail-postmaster").kind == FILE or "postmaster" in survey.accounts.users:
        return
    if re.search(r"^[=+]postmaster[:-]", survey.text_of(f"{survey.home}/users/assign"), re.MULTILINE):
        return
    default = survey.text_of(f"{survey.alias}/.qmail-default")
    if "fastforward" in default and re.search(
        r"^postmaster(@[^:]*)?:", survey.text_of("/etc/aliases"), re.MULTILINE | re.IGNORECASE
    ):
        return
    yield f"{relative(survey.alias)}/.qmail-postmaster is missing: mail for postmaster has no instruction of its own"


def contradiction(case: Case) -> Details:
    for address, first, second in case.clashes:
        port = address.rpartition(":")[2]
        yield f"port {port}: {first} and {second} both listen on {address}; the profile is that of {first}"
    yield from _listener_contradictions(case)
    survey = case.survey
    virtual = {line.partition(":")[0].lower() for _, line in survey.lines("virtualdomains") if ":" in line}
    for _, line in survey.lines("locals"):
        if line.lower() in virtual:
            yield f"{line} is both in control/locals and in control/virtualdomains; locals wins"
    hashes = survey.number("srs_hashmin"), survey.number("srs_hashlength")
    if survey.has("srs_hashlength") and hashes[0] > hashes[1]:
        yield f"control/srs_hashmin ({hashes[0]}) is more than control/srs_hashlength ({hashes[1]})"
    yield from _missing_files(case)
    for service in survey.services:
        if service.outcome.stopped and not service.launches:
            path, number = service.outcome.stopped
            yield f"{relative(path)}:{number}: the script of {service.name} stops here, so the service does not start"


def _listener_contradictions(case: Case) -> Details:
    for one in case.listeners:
        where = f"port {port(one)} ({one.service.name})"
        if (
            one.is_fork("S")
            and one.environment.get("FORCETLS", "0") != "0"
            and one.environment.get("DISABLETLS", "0") != "0"
        ):
            yield f"{where}: FORCETLS and DISABLETLS are both set"
        if one.on("FORCE_TLS") and one.on("DENY_TLS"):
            yield f"{where}: FORCE_TLS and DENY_TLS are both set; qmail-smtpd ends every session"
        if one.is_fork("S") and one.on("ENABLE_SPP") and not case.survey.has("smtpplugins"):
            yield f"{where}: ENABLE_SPP is set, but there is no control/smtpplugins"
        if one.auth == "required" and one.has_checker and not one.auth_works:
            yield f"{where}: AUTH is required, and is offered only under TLS, which is not offered"
        wants_tls = one.set("SMTPS") or one.set("STARTTLS") or one.set("FORCE_TLS") or one.set("UCSPITLS")
        if wants_tls and not one.certificate and one.tls == "none":
            yield f"{where}: TLS is asked for, but there is no certificate that can be read"


NEEDED_FILES = (
    "CERTFILE",
    "KEYFILE",
    "AUTH_CDB",
    "VALIDRCPTTO_CDB",
    "MOREVALIDRCPTTO_CDB",
    "SPPCONFFILE",
    "TLS_SERVER_CERT",
    "FILTERARGS",
)


def _missing_files(case: Case) -> Details:
    survey = case.survey
    for name, setting in case.every(*NEEDED_FILES):
        path = setting.value if setting.value.startswith("/") else f"{survey.home}/{setting.value}"
        if setting.value and survey.tree.entry(path).kind == "missing":
            yield f"{place(setting)}: {name} names {setting.value}, which is not there"
    for _, setting in case.every("QMAILREMOTE"):
        if "spawn-filter" in setting.value and "filterargs" not in survey.controls:
            yield f"{place(setting)}: spawn-filter is used, but there is no control/filterargs"
    for one in case.listeners:
        if one.rules is not None and not one.rules.source:
            yield f"port {port(one)}: the rules {one.step.options['x']} are not there"
