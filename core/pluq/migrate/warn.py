"""What an administrator should know before the move: one function for each kind of warning, in WARNINGS.

A warning names the file, variable, port or program, and no secret. Each function gets a Case and yields the details.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from pluq.errors import ConfigError
from pluq.migrate import known, rules, values
from pluq.migrate.items import WHY, Items, dotqmail_files
from pluq.migrate.listeners import Listener, Profile, has_srs
from pluq.migrate.profiles import is_dead, weak_ciphers
from pluq.migrate.recognise import route_has_login
from pluq.migrate.services import Launch, Service, Setting
from pluq.migrate.survey import BACKUP, Survey, relative
from pluq.migrate.tree import DANGLING, DENIED, FILE, FOLDER, LOOP, OTHER, OUTSIDE
from pluq.store.users import assignments

LARGE = 1 << 20
ROOT_USERS = ("0", "root")
WRAPPERS = {
    "jgreylist": "greylisting",
    "greylite": "greylisting",
    "qgreylist": "greylisting",
    "recordio": "the recording of sessions",
    "greetdelay": "the delay before the greeting",
    "spamdyke": "its filters, as far as no plugin stands for them",
    "tcpcheck": "its check of the connection",
}

Details = Iterator[str]


@dataclass
class Case:
    """What the warnings are about."""

    survey: Survey
    items: Items
    listeners: list[Listener]
    profiles: list[Profile]
    clashes: list[tuple[str, str, str]]
    missing: dict[str, list[str]]

    @property
    def fork(self) -> str:
        return self.items.fork

    @cached_property
    def environments(self) -> list[tuple[Service, Launch]]:
        return list(self.survey.launches)

    def every(self, *names: str) -> Iterator[tuple[str, Setting]]:
        for name in names:
            for _, _, setting in self.survey.settings(name):
                yield name, setting


def place(setting: Setting) -> str:
    return relative(setting.path) + (f":{setting.line}" if setting.line else "")


# -- relaying, AUTH, TLS


def open_relay(case: Case) -> Details:
    for one in case.listeners:
        if one.auth == "required":
            continue
        default = one.rules.default if one.rules else None
        if default and not default.deny and default.get("RELAYCLIENT") is not None and one.rules:
            yield f"{one.address}: the default rule of {relative(one.rules.source)}:{default.line} sets RELAYCLIENT"
        if one.set("RELAYCLIENT"):
            yield f"{one.address}: {place(one.launch.environment['RELAYCLIENT'])} sets RELAYCLIENT for every client"
    smtpd = [one for one in case.listeners if one.server.name == "qmail-smtpd"]
    if smtpd and "rcpthosts" not in case.survey.controls:
        yield f"there is no control/rcpthosts, so {smtpd[0].address} takes mail for any domain"


def relay_wide(case: Case) -> Details:
    for one in rules_of(case):
        for rule in one.rules:
            if rule.get("RELAYCLIENT") is not None and not rule.deny and rule.addresses >= rules.WIDE:
                yield f"{relative(one.source)}:{rule.line}: {rule.address} lets {rule.addresses} addresses relay"


def rules_of(case: Case) -> list[rules.Rules]:
    return case.items.rules


def auth_without_tls(case: Case) -> Details:
    for one in case.listeners:
        if one.clear_auth:
            yield f"port {_port(one)}: LOGIN and PLAIN are offered on a clear connection ({one.service.name})"


def _port(one: Listener) -> str:
    return (one.address or "").rpartition(":")[2]


def auth_no_checker(case: Case) -> Details:
    for one in case.listeners:
        if one.auth_asked != "none" and not one.has_checker:
            yield f"port {_port(one)}: AUTH is asked for, but {relative(one.service.run)} names no checkpassword program"


def weak_tls(case: Case) -> Details:
    for name in (
        "tlsserverciphers",
        "tlsclientciphers",
        "tlsciphers",
        "tlsremoteciphers",
        "servercipherlist",
        "clientcipherlist",
    ):
        if case.survey.has(name) and case.items.fork_reads(name):
            found = weak_ciphers(case.survey.controls[name].text)
            if found:
                yield f"control/{name} lets {', '.join(found[:5])} in"
    for name, setting in case.every("TLSCIPHERS", "TLS_CIPHER_LIST", "SSL_CIPHER", "CIPHERS"):
        if weak_ciphers(setting.value):
            yield f"{place(setting)}: {name} lets {', '.join(weak_ciphers(setting.value)[:5])} in"
    for name in ("tlsservermethod", "tlsclientmethod"):
        if case.survey.has(name) and re.search(r"SSLv[23]+|TLSv1(_?[01])?(?![_.0-9])", case.survey.controls[name].line):
            yield f"control/{name}: {case.survey.controls[name].line[:40]}"
    for name in ("rsa512.pem", "dh512.pem", "rsa1024.pem", "dh1024.pem"):
        if case.survey.has(name) and case.items.fork_reads(name):
            yield f"control/{name}: {re.sub('[^0-9]', '', name)}-bit parameters; pluq does not use them"
    for one in case.listeners:
        for word in re.split(r"[,;:\s]+", one.spamdyke.get("tls-cipher-list", "")):
            if weak_ciphers(word):
                yield f"spamdyke's tls-cipher-list lets {word} in"


def key_files(case: Case) -> Iterator[str]:
    """Yield the paths of files that may hold keys or certificates."""
    survey = case.survey
    folder = survey.tree.entry(survey.control).real
    for name in survey.controls:
        if name.endswith((".pem", ".key", ".crt")) or name in ("smtpcert", "remotecert"):
            yield f"{folder}/{name}"
    for name in ("servercerts", "domainkeys", "certs"):
        for inner in survey.tree.names(f"{folder}/{name}")[:2000]:
            path = f"{folder}/{name}/{inner}"
            if survey.tree.is_folder(path):
                yield from (f"{path}/{key}" for key in survey.tree.names(path)[:50])
            else:
                yield path
    for base in (f"{survey.home}/certs", f"{survey.control.rpartition('/')[0]}/certs"):
        yield from (f"{base}/{name}" for name in survey.tree.names(base) if name.endswith(".pem"))
    for _, setting in case.every("CERTFILE", "KEYFILE", "TLS_SERVER_CERT", "SERVERCERT"):
        yield setting.value if setting.value.startswith("/") else f"{survey.home}/{setting.value}"


def key_readable(case: Case) -> Details:
    for path in dict.fromkeys(key_files(case)):
        entry = case.survey.tree.entry(path)
        if (
            entry.kind == FILE
            and entry.mode & 0o004
            and b"PRIVATE KEY" in (case.survey.tree.read(path, 1 << 20) or b"")
        ):
            yield f"{relative(path)} holds a private key and everybody may read it (mode {entry.mode:o})"


def cert_unreadable(case: Case) -> Details:
    used = {one.certificate for one in case.listeners if one.tls != "none"} - {""}
    for path in sorted(used):
        data = case.survey.tree.read(path, 1 << 20) or b""
        if not _is_certificate(data):
            yield f"{relative(path)} holds no certificate that can be parsed"


def _is_certificate(data: bytes) -> bool:
    import base64
    import binascii

    found = re.search(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", data, re.DOTALL)
    try:
        # A certificate is a DER sequence; whether it is a good one is for `pluq check` to say.
        return (
            bool(found) and base64.b64decode(b"".join(found[1].split()), validate=True)[:1] == b"\x30"
            if found
            else False
        )
    except (binascii.Error, ValueError):
        return False


def credentials_in_file(case: Case) -> Details:
    survey = case.survey
    for number, line in survey.lines("smtproutes"):
        if route_has_login(line):
            yield f"control/smtproutes:{number} holds a password in clear"
            break
    for name in ("authsenders", "authsender"):
        if any("|" in line for _, line in survey.lines(name)):
            yield f"control/{name} holds passwords in clear"
    for name in ("host.mysql", "vpopmail.mysql", "host.master", "ldappassword", "ldapgrouppassword"):
        if survey.lines(name):
            yield f"control/{name} holds a password in clear"
    for name, control in survey.controls.items():
        if name.endswith(".sql") and ":" in control.line:
            yield f"control/{name} holds a password in clear"
    for path in ("/etc/poppasswd", "/home/vpopmail/etc/vpopmail.mysql", "/etc/vpopmail.mysql"):
        if survey.tree.is_file(path) and re.search(r"^[^#\s:]+[:|]\S+", survey.text_of(path), re.MULTILINE):
            yield f"{relative(path)} holds passwords in clear"


def pop_before_smtp(case: Case) -> Details:
    found = case.survey.uses("relay-ctrl-check", "relay-ctrl-allow")
    if found:
        yield f"relay-ctrl: clients may relay by address after a POP login ({found})"
    for path in ("/home/vpopmail/etc/open-smtp", "/var/vpopmail/etc/open-smtp", "/usr/local/vpopmail/etc/open-smtp"):
        if case.survey.tree.is_file(path):
            yield f"{relative(path)}: vpopmail's open-smtp lets clients relay by address after a POP login"
            break
    for name, setting in case.every("CHECKRELAY", "OPEN_SMTP"):
        yield f"{place(setting)}: {name} lets clients relay by address after a POP login"


def bare_lf(case: Case) -> Details:
    for name, setting in case.every("ALLOW_BARELF"):
        yield f"{place(setting)}: {name} lets bare line feeds end lines, by which mail is smuggled in; pluq refuses them"
    for one in rules_of(case):
        if one.values("ALLOW_BARELF"):
            yield f"{relative(one.source)}: ALLOW_BARELF lets bare line feeds end lines; pluq refuses them"


def runs_as_root(case: Case) -> Details:
    for one in case.listeners:
        chain = one.launch.chain
        if one.server.name != "qmail-smtpd" or chain.find("authup", "tcp-env"):
            continue
        user = one.step.options.get("u")
        dropped = chain.find("setuidgid", "s6-setuidgid")
        chpst = chain.find("chpst")
        uid = "envuidgid" if chain.find("envuidgid") and ("U" in one.step.options or "U" in one.environment) else None
        named = user or (dropped.arguments[0] if dropped and dropped.arguments else None) or uid
        named = named or (chpst.options.get("u") if chpst else None) or ("U" if "U" in one.step.options else None)
        if named is None or named.partition(":")[0] in ROOT_USERS:
            yield f"{relative(one.service.run)}: {one.service.name} starts qmail-smtpd as root"


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
        where = f"port {_port(one)} ({one.service.name})"
        if (
            one.is_fork("S")
            and one.environment.get("FORCETLS", "0") != "0"
            and one.environment.get("DISABLETLS", "0") != "0"
        ):
            yield f"{where}: FORCETLS and DISABLETLS are both set"
        if one.set("FORCE_TLS") and one.set("DENY_TLS"):
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
            yield f"port {_port(one)}: the rules {one.step.options['x']} are not there"


# -- files


def files_in_control(case: Case) -> Iterator[tuple[str, str]]:
    """Yield (path, kind) of names where a file belongs: control files, users, .qmail files."""
    survey = case.survey
    for control in survey.controls.values():
        yield control.path, control.entry.kind
    for name in ("assign", "cdb"):
        path = f"{survey.home}/users/{name}"
        yield path, survey.tree.entry(path).kind
    for path in dotqmail_files(survey):
        yield path, survey.tree.entry(path).kind


def unreadable(case: Case) -> Details:
    for path, kind in files_in_control(case):
        if kind in (LOOP, DANGLING, DENIED):
            yield f"{relative(path)}: {WHY[kind]}"
        elif kind == FILE and case.survey.tree.read(path, 1) is None:
            yield f"{relative(path)}: it cannot be opened"


def not_a_file(case: Case) -> Details:
    for path, kind in files_in_control(case):
        name = path.rpartition("/")[2]
        if kind == OTHER or (kind == FOLDER and "/control/" in path and not case.items._is_folder(name)):
            yield f"{relative(path)}: {WHY[kind]}"


def link_outside(case: Case) -> Details:
    for path, kind in files_in_control(case):
        if kind == OUTSIDE:
            yield f"{relative(path)}: {WHY[kind]}; it was not read"


def crlf(case: Case) -> Details:
    for control in case.survey.controls.values():
        if control.crlf:
            yield f"{relative(control.path)} has lines that end in CRLF"
    for service in case.survey.services:
        if service.crlf:
            yield f"{relative(service.run)} ({service.name}) has lines that end in CRLF"
    for one in rules_of(case):
        if one.text and b"\r\n" in (case.survey.tree.read(one.text) or b""):
            yield f"{relative(one.text)} has lines that end in CRLF"


def bad_value(case: Case) -> Details:
    for control in case.survey.controls.values():
        for line, why in values.faults(control, case.items.regular_expressions):
            yield f"{relative(control.path)}:{line}: {why}"
    assign = f"{case.survey.home}/users/assign"
    if case.survey.tree.is_file(assign):
        for line, why in values.assign_faults(case.survey.text_of(assign))[: values.FAULTS]:
            yield f"{relative(assign)}:{line}: users/assign: {why}"
    for name, bounds in values.NUMBER_VARIABLES.items():
        for _, setting in case.every(name):
            why = values.number_fault(setting.value, *bounds)
            if why:
                yield f"{place(setting)}: {name}: {why}"
        for one in rules_of(case):
            for value in one.values(name):
                why = values.number_fault(value, *bounds)
                if why:
                    yield f"{relative(one.source)}: {name}: {why}"


def regex_risk(case: Case) -> Details:
    for name in values.PATTERN_FILES:
        if case.items.regular_expressions and case.survey.has(name):
            for line in values.risky(case.survey.controls[name]):
                yield f"control/{name}:{line}: this pattern can take exponential time"


def large_file(case: Case) -> Details:
    for control in case.survey.controls.values():
        if control.entry.kind == FILE and control.entry.size > LARGE and not control.name.endswith(".cdb"):
            yield f"{relative(control.path)} has {control.entry.size} bytes; a cdb would be better"


def rules_syntax(case: Case) -> Details:
    for one in rules_of(case):
        for line, why in one.faults[:20]:
            yield f"{relative(one.text)}:{line}: {why}"


def cdb_files(case: Case) -> Iterator[str]:
    survey = case.survey
    folder = survey.tree.entry(survey.control).real
    yield from (f"{folder}/{name}" for name in survey.controls if name.endswith(".cdb"))
    yield f"{survey.home}/users/cdb"


def cdb_invalid(case: Case) -> Details:
    for one in rules_of(case):
        if one.cdb_fault:
            yield f"{relative(one.compiled)} is no cdb"
    seen = {one.compiled for one in rules_of(case)}
    for path in cdb_files(case):
        entry = case.survey.tree.entry(path)
        if entry.kind == FILE and entry.real not in seen and rules.cdb_fault(case.survey.tree.host(entry.real)):
            yield f"{relative(path)} is no cdb"


def stale_cdb(case: Case) -> Details:
    for one in rules_of(case):
        if one.stale:
            yield f"{relative(one.compiled)} differs from {relative(one.text)}"
    yield from _stale_list(case, "morercpthosts", b"")
    yield from _stale_users(case)


def _stale_list(case: Case, name: str, prefix: bytes) -> Details:
    survey = case.survey
    if not (survey.has(name) and survey.has(f"{name}.cdb")):
        return
    try:
        compiled = set(rules.cdb_records(survey.tree.host(survey.controls[f"{name}.cdb"].entry.real)))
    except (ConfigError, OSError):
        return
    if compiled != {line.lower().encode("utf-8", "surrogateescape") for _, line in survey.lines(name)}:
        yield f"control/{name}.cdb differs from control/{name}"


def _stale_users(case: Case) -> Details:
    survey = case.survey
    text, compiled = survey.tree.read(f"{survey.home}/users/assign"), survey.tree.entry(f"{survey.home}/users/cdb")
    if text is None or compiled.kind != FILE:
        return
    try:
        expected = dict(reversed(list(assignments(text.splitlines(keepends=True), "users/assign"))))
        found = rules.cdb_records(survey.tree.host(compiled.real))
    except (ConfigError, OSError, ValueError):
        return
    if expected != found:
        yield f"{relative(survey.home)}/users/cdb differs from users/assign"


# -- scripts and names


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
        if case.items.is_rules(control) or BACKUP.fullmatch(name) or name in ("fixsmtpio", "authsender", "pluq.toml"):
            continue
        if (
            find_control_file(name) is None
            and known.control_file(name) is None
            and not case.items.read_by_script(control)
        ):
            yield f"{relative(control.path)}: nothing known reads it"


def unknown_env(case: Case) -> Details:
    seen = set()
    for _, launch in case.environments:
        for name, setting in launch.environment.items():
            skipped = name in known.CORE_VARIABLES or name in known.SCRIPT_VARIABLES
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


# -- what is gone, and what never was


def dead_dnsbl(case: Case) -> Details:
    for one in case.listeners:
        step = one.launch.chain.find("rblsmtpd")
        zones = [value for letter, value in step.repeated if letter in "ra"] if step else []
        zones += one.spamdyke.get("dns-blacklist-entry", "").split()
        for zone in zones:
            if is_dead(zone):
                yield f"port {_port(one)}: {zone.partition(':')[0]} is dead; it was left out"
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
            yield f"port {_port(one)}: DROP_PRE_GREET does nothing without a greeting delay"
        if one.is_fork("S") and one.set("NOBADHELO"):
            yield f"port {_port(one)}: NOBADHELO is not read by this fork"
        if one.auth_asked == "offered" and one.has_checker and not one.auth_works:
            yield f"port {_port(one)}: AUTH is asked for, but offered only under TLS, which is not offered"
        if one.is_fork("S") and one.has_checker and "SMTPAUTH" not in one.environment:
            yield f"port {_port(one)}: a checkpassword program is named, but without SMTPAUTH nobody can log in"
        if one.set("SURBL") and not any("surbl" in program for program in one.queue_programs):
            yield f"port {_port(one)}: SURBL is set, but QMAILQUEUE leads to no surblqueue"
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
    if survey.has("tlsclients") and case.items.fork_reads("tlsclients"):
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
        yield f"{total} message{'s' if total > 1 else ''} wait in {relative(case.survey.queue_folders[0])}"


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
                yield f"{relative(service.run)}: {step.name}: {WRAPPERS[step.name]} is lost"
        if launch.chain.server:
            for name in launch.chain.unknown:
                yield f"{relative(service.run)}: {name} is not known; its work is lost"


def not_supported(case: Case) -> Details:
    survey = case.survey
    if case.fork == "qmail-ldap":
        yield "qmail-ldap: users in LDAP (control/ldapserver); export them to users/assign first"
    if survey.lines("etrnhosts"):
        yield "control/etrnhosts: ETRN"
    if survey.lines("atrnaccess") or any(True for _ in case.every("ODMR")):
        yield "control/atrnaccess: ODMR (ATRN)"
    if any(_port(one) == "366" for one in case.listeners):
        yield "port 366: ODMR (ATRN)"
    for name in ("host.master", "host.cntrl"):
        if survey.has(name):
            yield f"control/{name}: a cluster of IndiMail hosts"
    if any(survey.has(f"suppls{channel}") for channel in range(3)):
        yield "control/suppls0: supplemental channels"
    for name in ("badmimetypes", "badloadertypes"):
        if survey.has(name) and case.items.fork_reads(name):
            yield f"control/{name}: refusal of attachments by their first bytes"


def plugin_missing(case: Case) -> Details:
    for name, places in case.missing.items():
        yield f"{name} is needed by {', '.join(places)} and is not installed"


def service_down(case: Case) -> Details:
    for service in case.survey.services:
        if service.down:
            yield f"{service.name} has a down file; no port is opened for it"


WARNINGS: tuple[tuple[str, Callable[[Case], Details]], ...] = (
    ("open-relay", open_relay),
    ("relay-wide", relay_wide),
    ("auth-without-tls", auth_without_tls),
    ("auth-no-checker", auth_no_checker),
    ("weak-tls", weak_tls),
    ("key-readable", key_readable),
    ("cert-unreadable", cert_unreadable),
    ("credentials-in-file", credentials_in_file),
    ("pop-before-smtp", pop_before_smtp),
    ("bare-lf", bare_lf),
    ("runs-as-root", runs_as_root),
    ("dead-dnsbl", dead_dnsbl),
    ("regex-risk", regex_risk),
    ("domainkeys-obsolete", domainkeys_obsolete),
    ("crlf", crlf),
    ("unreadable", unreadable),
    ("not-a-file", not_a_file),
    ("link-outside", link_outside),
    ("bad-value", bad_value),
    ("large-file", large_file),
    ("rules-syntax", rules_syntax),
    ("cdb-invalid", cdb_invalid),
    ("stale-cdb", stale_cdb),
    ("unparsable", unparsable),
    ("unknown-control", unknown_control),
    ("unknown-env", unknown_env),
    ("program-missing", program_missing),
    ("no-postmaster", no_postmaster),
    ("contradiction", contradiction),
    ("no-effect", no_effect),
    ("defect-fixed", defect_fixed),
    ("srs-incomplete", srs_incomplete),
    ("queue-not-empty", queue_not_empty),
    ("queue-layout", queue_layout),
    ("wrapper-not-carried", wrapper_not_carried),
    ("not-supported", not_supported),
    ("plugin-missing", plugin_missing),
    ("service-down", service_down),
)


def all_warnings(case: Case) -> list[dict[str, str]]:
    """Return the warnings in the order of the table, each detail once."""
    found = []
    for id_, function in WARNINGS:
        found += [{"id": id_, "detail": detail} for detail in dict.fromkeys(function(case))]
    return found
