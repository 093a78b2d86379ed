"""Warnings of what is lost, what never worked, and what waits."""

from __future__ import annotations

import re

from pluq.migrate import known
from pluq.migrate.case import Case, Details, place, port, rules_of
from pluq.migrate.listener import Listener
from pluq.migrate.needs import has_srs
from pluq.migrate.profiles import is_dead
from pluq.migrate.services import Launch, Service
from pluq.migrate.survey import relative

WRAPPERS = {
    "jgreylist": "greylisting",
    "greylite": "greylisting",
    "qgreylist": "greylisting",
    "recordio": "the recording of sessions",
    "fixcrio": "the repair of bare line feeds",
    "greetdelay": "the delay before the greeting",
    "spamdyke": "its filters, as far as no plugin stands for them",
    "tcpcheck": "its check of the connection",
}


def dead_dnsbl(case: Case) -> Details:
    for one in case.listeners:
        step = one.launch.chain.find("rblsmtpd")
        zones = [value for letter, value in step.repeated if letter in "ra"] if step else []
        zones += one.spamdyke.get("dns-blacklist-entry", "").split()
        for zone in zones:
            if is_dead(zone):
                yield f"port {port(one)}: {zone.partition(':')[0]} is dead; it was left out"
    for name in ("dnsbllist", "rbllist"):
        for number, line in case.survey.lines(name):
            if is_dead(line.lstrip("+-=").split()[0].partition(":")[0] if line.lstrip("+-=").split() else ""):
                yield f"control/{name}:{number}: {line[:80]} is dead"


def domainkeys_obsolete(case: Case) -> Details:
    for name, setting in case.every("DKSIGN", "DKVERIFY", "DKQUEUE"):
        yield f"{place(setting)}: {name} is of DomainKeys; dkim does its work"
    for one in rules_of(case):
        found = [name for name in ("DKSIGN", "DKVERIFY", "DKQUEUE") if one.values(name)]
        if found:
            yield f"{relative(one.source)}: {', '.join(found)}: DomainKeys; dkim does its work"
    if any(setting.value.rpartition("/")[2] == "qmail-dk" for _, setting in case.every("QMAILQUEUE")):
        yield "QMAILQUEUE is qmail-dk: DomainKeys; dkim does its work"


def no_effect(case: Case) -> Details:
    survey = case.survey
    if survey.has("authsender") and not survey.has("authsenders"):
        yield "control/authsender was never read; the program opened authsenders"
    for one in case.listeners:
        delay = any(
            value.strip() not in ("", "0") for value in (*one.values("SMTPD_GREETDELAY"), *one.values("GREETDELAY"))
        )
        if one.on("DROP_PRE_GREET") and not delay:
            yield f"port {port(one)}: DROP_PRE_GREET does nothing without a greeting delay"
        if one.is_fork("S") and one.set("NOBADHELO"):
            yield f"port {port(one)}: NOBADHELO is not read by this fork"
        if one.auth_asked == "offered" and one.has_checker and not one.auth_works:
            yield f"port {port(one)}: AUTH is asked for, but offered only under TLS, which is not offered"
        if one.is_fork("S") and one.has_checker and "SMTPAUTH" not in one.environment:
            yield f"port {port(one)}: a checkpassword program is named, but without SMTPAUTH nobody can log in"
        if one.set("SURBL") and not any("surbl" in program for program in one.queue_programs):
            yield f"port {port(one)}: SURBL is set, but QMAILQUEUE leads to no surblqueue"
    yield from _not_exported(case)


def _not_exported(case: Case) -> Details:
    for service in case.survey.services:
        if not service.launches:
            continue
        exported = {name for launch in service.launches for name in launch.environment}
        for (name, path), variable in service.outcome.assigned.items():
            found = known.variable(name)
            if found is None or found.owner in ("core", "service") or variable.exported or name in exported:
                continue
            yield f"{relative(path)}:{variable.line}: {name} is set and never exported, so no program sees it"


def defect_fixed(case: Case) -> Details:
    survey, fork = case.survey, case.fork
    if fork == "sagredo":
        if survey.number("maxrcpt"):
            yield "control/maxrcpt: the recipient over the limit was refused and got the mail all the same; now he does not"
        if survey.lines("badhelonorelay"):
            yield "control/badhelonorelay was compared with the sender; now with the HELO name"
        if survey.number("rejectnullsenders") or any(True for _ in case.every("REJECTNULLSENDERS")):
            yield "rejectnullsenders hung up on every bounce, which came back for days"
        for _, setting in case.every("ENABLE_SPP"):
            if setting.value == "0":
                yield f"{place(setting)}: ENABLE_SPP=0 switched plugins on; now it switches them off"
        if len(survey.lines("filterargs")) > 1 or len(survey.lines("dkimkeys")) > 1:
            yield "control/filterargs, dkimkeys: variables of earlier lines were set for every domain; now only for their own"
    for name, setting in case.every("HONOR_BODYLENGTHTAG"):
        yield f"{place(setting)}: {name} switched off what it names"
    if fork == "jms1" and (survey.number("maxrcpt") or any(True for _ in case.every("MAXRCPT"))):
        yield "maxrcpt counted refused recipients as well, and answered 555"
    if survey.has("tlsclients") and case.facts.fork_reads("tlsclients"):
        yield "control/tlsclients: certificates were asked for by a renegotiation that clients refuse; now in the first handshake"
    if fork == "indimail":
        for name, setting in case.every("SRS_DOMAIN", "SRS_SECRETS", "SPFRULES", "SPFGUESS", "SPFEXP"):
            yield f"{place(setting)}: {name} was read as the name of a file, the manual says a value"


def srs_incomplete(case: Case) -> Details:
    survey = case.survey
    if not has_srs(survey):
        return
    domain = survey.controls["srs_domain"].line
    if not survey.lines("srs_secrets"):
        yield f"control/srs_secrets is missing or empty, so nothing can be signed for {domain}"
    accepted = [line.lower() for name in ("rcpthosts", "morercpthosts") for _, line in survey.lines(name)]
    if domain.lower() not in accepted and not any(
        line.startswith(".") and domain.lower().endswith(line) for line in accepted
    ):
        yield f"{domain} (control/srs_domain) is not in control/rcpthosts, so bounces are refused"
    if not any(line.lower().startswith(f"{domain.lower()}:") for _, line in survey.lines("virtualdomains")):
        yield f"{domain} (control/srs_domain) is not in control/virtualdomains, so bounces are not taken back"


def queue_not_empty(case: Case) -> Details:
    total = sum(case.survey.waiting(queue) for queue in case.survey.queue_folders)
    if total:
        yield f"{total} {'messages wait' if total > 1 else 'message waits'} in {relative(case.survey.queue_folders[0])}"


def queue_layout(case: Case) -> Details:
    folders = case.survey.queue_folders
    if len(folders) > 1:
        yield f"{len(folders) - 1} queues below {relative(folders[0])}; drain them before the move"
    for queue in folders:
        if case.survey.split_todo(queue):
            yield f"{relative(queue)}/todo is split into folders (big-todo); drain the queue before the move"
    if folders and any(case.survey.tree.is_folder(f"{folders[0]}/suppl{channel}") for channel in range(3)):
        yield f"{relative(folders[0])} has supplemental channels; drain the queue before the move"


def wrapper_not_carried(case: Case) -> Details:
    for service, launch in case.environments:
        if not launch.chain.listener:
            continue
        for step in launch.chain.steps:
            if step.name in WRAPPERS:
                lost = _lost_options(case, service, launch) if step.name == "spamdyke" else ""
                yield f"{relative(service.run)}: {step.name}: {WRAPPERS[step.name]} is lost{lost}"
        if launch.chain.server:
            for name in launch.chain.unknown:
                yield f"{relative(service.run)}: {name} is not known; its work is lost"


# Settings of spamdyke for which a plugin does something, or that filter nothing.
SPAMDYKE_KEPT = re.compile(
    r"dns-blacklist-entry|gr[ae]ylist-(level|dir|min-secs|max-secs)|greeting-delay-secs|tls-(level|certificate-file|cipher-list)"
    r"|log-.*|idle-timeout-secs|connection-timeout-secs|smtp-auth-.*|local-domains-.*|config-.*|[fc]|run-as-user|full-log-dir"
)


def _lost_options(case: Case, service: Service, launch: Launch) -> str:
    names = sorted(
        name for name in Listener(case.survey, service, launch).spamdyke if not SPAMDYKE_KEPT.fullmatch(name)
    )
    return f": {', '.join(names[:20])}" if names else ""


def not_supported(case: Case) -> Details:
    survey = case.survey
    if case.fork == "qmail-ldap":
        yield "qmail-ldap: users in LDAP (control/ldapserver); export them to users/assign first"
    if survey.lines("etrnhosts"):
        yield "control/etrnhosts: ETRN"
    if survey.lines("atrnaccess") or any(True for _ in case.every("ODMR")):
        yield "control/atrnaccess: ODMR (ATRN)"
    if any(port(one) == "366" for one in case.listeners):
        yield "port 366: ODMR (ATRN)"
    for name in ("host.master", "host.cntrl"):
        if survey.has(name):
            yield f"control/{name}: a cluster of IndiMail hosts"
    if any(survey.has(f"suppls{channel}") for channel in range(3)):
        yield "control/suppls0: supplemental channels"
    for name in ("badmimetypes", "badloadertypes"):
        if survey.has(name) and case.facts.fork_reads(name):
            yield f"control/{name}: refusal of attachments by their first bytes"


def plugin_missing(case: Case) -> Details:
    for name, places in case.missing.items():
        yield f"{name} is needed by {', '.join(places)} and is not installed"


def service_down(case: Case) -> Details:
    for service in case.survey.services:
        if service.down:
            yield f"{service.name} has a down file; no port is opened for it"
