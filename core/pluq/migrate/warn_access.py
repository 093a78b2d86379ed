"""Warnings of who may relay, log in and read keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pluq.migrate import rules
from pluq.migrate.case import Case, Details, place, port, rules_of
from pluq.migrate.profiles import weak_ciphers
from pluq.migrate.recognise import route_has_login
from pluq.migrate.survey import relative
from pluq.migrate.tree import FILE

ROOT_USERS = ("0", "root")


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


def auth_without_tls(case: Case) -> Details:
    for one in case.listeners:
        if one.clear_auth:
            yield f"port {port(one)}: LOGIN and PLAIN are offered on a clear connection ({one.service.name})"


def auth_no_checker(case: Case) -> Details:
    for one in case.listeners:
        if one.auth_asked != "none" and not one.has_checker:
            yield f"port {port(one)}: AUTH is asked for, but {relative(one.service.run)} names no checkpassword program"


def weak_tls(case: Case) -> Details:
    for name in (
        "tlsserverciphers",
        "tlsclientciphers",
        "tlsciphers",
        "tlsremoteciphers",
        "servercipherlist",
        "clientcipherlist",
    ):
        if case.survey.has(name) and case.facts.fork_reads(name):
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
        if case.survey.has(name) and case.facts.fork_reads(name):
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
        if one.server.name != "qmail-smtpd" or chain.find("authup") or one.step.name == "tcp-env":
            continue
        user = one.step.options.get("u")
        dropped = chain.find("setuidgid", "s6-setuidgid")
        chpst = chain.find("chpst")
        uid = "envuidgid" if chain.find("envuidgid") and ("U" in one.step.options or "U" in one.environment) else None
        named = user or (dropped.arguments[0] if dropped and dropped.arguments else None) or uid
        named = named or (chpst.options.get("u") if chpst else None) or ("U" if "U" in one.step.options else None)
        if named is None or named.partition(":")[0] in ROOT_USERS:
            yield f"{relative(one.service.run)}: {one.service.name} starts qmail-smtpd as root"
