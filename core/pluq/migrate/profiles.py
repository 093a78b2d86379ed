"""The profiles and roles of pluq.toml, from the listeners of a site.

Listeners on one address become one profile; those on one port that need the same, one profile with several addresses. A service
that is down is not opened. What a run script exports becomes a setting where a plugin declares that variable; logins, keys and
whatever else is secret stays in the files where it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pluq.config.settings import Declaration
from pluq.migrate import chain as chains
from pluq.migrate.listener import Listener
from pluq.migrate.needs import ROLE_NEEDS, USUAL_NAMES, Profile, chkuser, profile_of
from pluq.migrate.survey import Survey
from pluq.migrate.tree import join
from pluq.migrate.values import NUMBER_VARIABLES, number_fault
from pluq.store.control import leading_int

Catalogue = Mapping[str, Sequence[Declaration]]

DEAD_LISTS = ("njabl", "sorbs", "ordb", "ahbl", "blitzed")
WEAK_CIPHER = re.compile(
    r"(^|[-+])(RC4|DES|EXP|EXPORT|EXPORT40|EXPORT56|LOW|SSLv2|SSLv3|aNULL|eNULL|NULL|ADH|MD5|3DES)($|[-+])"
)
# Variables of which only the part is used that plugins still have to do.
OWN_SETTINGS = (
    "QMAILQUEUE",
    "SMTPS",
    "DISABLETLS",
    "FORCE_TLS",
    "REQUIRE_AUTH",
    "SMTPAUTH",
    "RCPTCHECK",
    "RCPTCHECKRELAYCLIENT",
)


# indimail reads these as the name of another control file.
NAMES_OF_FILES = [
    "BADHELO", "BADMAILFROM", "BADRCPTTO", "DNSBLLIST", "DOMAINBINDINGS", "FILTERARGS", "OUTGOINGIP", "SIGNATUREDOMAINS",
    "NOSIGNATUREDOMAINS", "SPFEXP", "SPFGUESS", "SPFRULES", "SRS_DOMAIN", "SRS_SECRETS", "SURBLDOMAINWHITE", "SURBLRCPT",
    "TLSADOMAINS", "LEVEL2_TLD", "LEVEL3_TLD", "BATVKEY", "FROMRULES", "RCPTRULES", "AUTHRULES", "BOUNCERULES",
]  # fmt: skip


def is_dead(zone: str) -> bool:
    return any(re.search(rf"(^|[.\-]){name}([.\-]|$)", zone.lower()) for name in DEAD_LISTS)


def weak_ciphers(text: str) -> list[str]:
    """Return the words of an OpenSSL cipher list that let broken ciphers in."""
    words = [word for word in re.split(r"[:, \n]+", text) if word and word[0] not in "!-@"]
    return [word for word in words if WEAK_CIPHER.search(word.lstrip("+"))]


def make_profiles(survey: Survey, catalogue: Catalogue) -> tuple[list[Profile], list[tuple[str, str, str]]]:
    """Return the profiles, then the roles; and (address, first service, other service) of listeners in each other's way."""
    profiles: list[Profile] = []
    clashes = []
    for service in survey.services:
        for launch in service.listeners:
            one = Listener(survey, service, launch)
            if one.address is None or service.down:
                continue
            holder = next((found for found in profiles if one.address in found.listen), None)
            if holder is not None:
                if service.name not in holder.services:
                    clashes.append((one.address, holder.services[0], service.name))
                continue
            profile = profile_of(one)
            fill(profile, one, catalogue)
            _add(profiles, profile)
    _name(profiles)
    return profiles + _roles(survey, catalogue), clashes


def _add(profiles: list[Profile], new: Profile) -> None:
    """Add a profile, or its address to one of the same port that is like it."""
    for old in profiles:
        same = (old.tls, old.auth, old.needs.keys() - {"ipv6"}, old.settings, old.options) == (
            new.tls, new.auth, new.needs.keys() - {"ipv6"}, new.settings, new.options,
        )  # fmt: skip
        if old.port == new.port and same:
            old.listen += new.listen
            old.needs |= new.needs
            old.services += new.services
            return
    profiles.append(new)


def _name(profiles: list[Profile]) -> None:
    profiles.sort(key=lambda one: (one.port, one.listen))
    taken: set[str] = {"remote", "queue", "local", "send"}
    for profile in profiles:
        wanted = USUAL_NAMES.get(profile.port) or re.sub(r"[^A-Za-z0-9_-]+", "-", profile.services[0]) or "smtp"
        name, count = wanted, 2
        while name in taken:
            name, count = f"{wanted}-{count}", count + 1
        taken.add(name)
        profile.name = name


def _roles(survey: Survey, catalogue: Catalogue) -> list[Profile]:
    found = []
    for name, needs_of in ROLE_NEEDS.items():
        needs = needs_of(survey)
        if needs or name == "remote":
            tls = "starttls" if "tls" in needs else "none"
            profile = Profile(name, tls=tls, needs=needs)
            if "dkim" in needs and (key := _usual_key(survey)):
                profile.settings["dkim"] = {"default_key": key}
            if "dane" in needs and _asks_itself(survey):
                profile.settings["dane"] = {"trusted_resolver": True}
            ciphers = survey.controls.get("tlsclientciphers")
            if "tls" in needs and ciphers and weak_ciphers(ciphers.text):
                profile.settings["tls"] = {"client_ciphers": "DEFAULT"}
            found.append(profile)
    return found


# -- settings


def fill(profile: Profile, one: Listener, catalogue: Catalogue) -> None:
    """Set the options and the plugins' settings of a profile."""
    _options(profile, one)
    for plugin in profile.needs:
        found: dict[str, Any] = {}
        for declaration in catalogue.get(plugin, ()):
            value = from_environment(one, declaration)
            if value is not None and value != declaration.default:
                found[declaration.name] = value
        if plugin in _OWN:
            found |= _OWN[plugin](profile, one)
        known = {declaration.name for declaration in catalogue.get(plugin, ())}
        found = {key: value for key, value in found.items() if (key in known or not known) and is_text(value)}
        if found:
            profile.settings[plugin] = found


def is_text(value: Any) -> bool:
    """Say whether TOML can hold a value: not one with bytes that are no UTF-8."""
    if isinstance(value, list):
        return all(map(is_text, value))
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def _options(profile: Profile, one: Listener) -> None:
    rules = one.rules
    source = rules.source.removesuffix(".cdb") if rules and rules.source else ""
    if source and is_text(source) and source != f"{one.survey.tree.entry(one.survey.control).real}/tcp.smtp":
        profile.options["rules"] = source
    limit = one.step.options.get("c", "")
    if "/" in limit:  # indimail's tcpserver reads it from a file
        limit = one.survey.text_of(join(one.launch.folder, limit)).strip()
    if limit.isdecimal() and int(limit[:9]) > 0:
        profile.options["concurrency"] = int(limit[:9])
    per_address = one.step.options.get("C", "").partition(":")[0] or one.environment.get("MAXPERIP", "")
    if per_address.isdecimal() and int(per_address[:9]) > 0:
        profile.options["per_address"] = int(per_address[:9])


def from_environment(one: Listener, declaration: Declaration) -> Any:
    """Return what the listener's environment says of a setting, None for nothing or nonsense."""
    name = declaration.env
    if not name or name in OWN_SETTINGS or declaration.secret or name not in one.environment:
        return None
    value = one.environment[name]
    if name in NUMBER_VARIABLES and number_fault(value, *NUMBER_VARIABLES[name]):
        return None
    if one.is_fork("I") and name in NAMES_OF_FILES:
        return None
    try:
        if declaration.parse_env is not None:
            value = declaration.parse_env(value)
            return list(value) if isinstance(value, tuple) else value
        if declaration.kind == "bool":
            return value.strip().lower() not in ("", "0", "no", "off", "false")
        if declaration.kind == "int":
            return leading_int(value.encode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    printable = value.isprintable() and not any("\ud800" <= c <= "\udfff" for c in value)
    return value if declaration.kind == "str" and printable else None


def _below_home(one: Listener, path: str) -> str:
    return path.removeprefix(f"{one.survey.home}/")


def _tls_settings(profile: Profile, one: Listener) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if profile.tls == "implicit":
        found["implicit"] = True
    if profile.tls == "required":
        found["required"] = True
    certificate = _below_home(one, one.certificate)
    if certificate and certificate != "control/servercert.pem":
        found["certificate"] = certificate
    key = one.environment.get("KEYFILE", "")
    if key and certificate and _below_home(one, key) != certificate:
        found["key"] = _below_home(one, key)
    ciphers = one.survey.controls.get("tlsserverciphers")
    if weak_ciphers(one.environment.get("TLSCIPHERS", "")) or (ciphers and weak_ciphers(ciphers.text)):
        found["ciphers"] = "DEFAULT"
    return found


def _auth_settings(profile: Profile, one: Listener) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if profile.auth == "required":
        found["required"] = True
    if one.checker:
        found["program"] = list(one.checker)
    word = one.environment.get("SMTPAUTH", "").lower().lstrip("!")
    if word.startswith("cram"):
        found["mechanisms"] = ["CRAM-MD5"]
    elif one.checker:
        plain = [name for name in ("LOGIN", "PLAIN") if not (one.is_fork("I") and one.set(f"DISABLE_AUTH_{name}"))]
        found["mechanisms"] = [*plain, *(["CRAM-MD5"] if _cram(one, word) else [])]
    if one.is_fork("I") and (one.set("ANTISPOOFING") or one.set("CHECKSENDER")) and not one.set("MASQUERADE"):
        found["force_sender"] = True
    protocol = "jms" if one.is_fork("J") else "indimail" if one.is_fork("I") else ""
    if one.checker and chains.base(one.checker[0]) == "cmd5checkpw":
        protocol = "cmd5checkpw"
    if protocol:
        found["protocol"] = protocol
    if one.clear_auth:
        found["without_tls"] = True
    elif profile.tls == "implicit":
        found["without_tls"] = False
    return found


def _cram(one: Listener, word: str) -> bool:
    """Say whether CRAM-MD5 is offered beside LOGIN and PLAIN: as SMTPAUTH says, or always, by the patches that do not read it."""
    if word.startswith("+cram"):
        return True
    if one.is_fork("J"):
        return one.on("ALLOW_CRAM")
    if one.is_fork("I"):
        return not one.set("DISABLE_CRAM_MD5")
    reads = one.is_fork("S") or one.survey.says("qmail-smtpd", "SMTPAUTH")
    return not reads and (one.is_fork("GT") or bool(one.survey.says("qmail-smtpd", "CRAM-MD5")))


def _tarpit_settings(profile: Profile, one: Listener) -> dict[str, Any]:
    found: dict[str, Any] = {}
    delay = one.environment.get("GREETDELAY", "") if one.is_fork("JIL") else ""
    delay = delay or one.spamdyke.get("greeting-delay-secs", "")
    if re.fullmatch(r"-?[0-9]{1,4}", delay) and int(delay):
        found["greet_delay"] = abs(int(delay))
        if delay.startswith("-"):
            found["drop_early_talkers"] = True
    return found


def _dkim_settings(profile: Profile, one: Listener) -> dict[str, Any]:
    return {"default_key": key} if (key := _usual_key(one.survey)) else {}


def _usual_key(survey: Survey) -> str:
    """Return where the keys of domains lie if that is not the usual place: one name in all folders of domainkeys."""
    folder = f"{survey.control}/domainkeys"
    names = [set(survey.tree.names(f"{folder}/{domain}")) for domain in survey.tree.names(folder)[:1000]]
    found = set.intersection(*filter(None, names)) if any(names) else set()
    keys = sorted(name for name in found if not name.endswith((".pub", ".txt", ".dns")) and name != "default")
    return f"control/domainkeys/%/{keys[0]}" if len(keys) == 1 and "default" not in found else ""


def _asks_itself(survey: Survey) -> bool:
    """Say whether the site's name servers are all on the host itself, where nobody can come between."""
    servers = re.findall(r"^nameserver\s+(\S+)", survey.text_of("/etc/resolv.conf"), re.MULTILINE)
    return bool(servers) and all(server.startswith("127.") or server == "::1" for server in servers)


def _dnsbl_settings(profile: Profile, one: Listener) -> dict[str, Any]:
    step = one.launch.chain.find("rblsmtpd")
    if step is None:
        zones = one.spamdyke.get("dns-blacklist-entry", "").split()
        return {"lists": [f"-{zone}" for zone in zones if not is_dead(zone)]} if zones else {}
    sign = "-" if "b" in step.options else ""
    lists = []
    for letter, value in step.repeated:
        zone = value.partition(":")[0]
        if letter in "ra" and value and not is_dead(zone):
            lists.append(("+" if letter == "a" else sign) + zone)
    found: dict[str, Any] = {"lists": lists} if lists else {}
    if "c" in step.options:
        found["fail_closed"] = True
    return found


def _qmailqueue_settings(profile: Profile, one: Listener) -> dict[str, Any]:
    own = one.environment.get("QMAILQUEUE")
    return {"program": one.external_queue} if own and one.external_queue else {}


def _badmail_settings(profile: Profile, one: Listener) -> dict[str, Any]:
    found: dict[str, Any] = {"mfcheck": 1} if one.is_fork("E") and one.values("MFDNSCHECK") else {}
    patterns = one.is_fork("SGTJ") or (one.is_fork("I") and one.environment.get("QREGEX") == "1")
    return found if patterns else {**found, "match": "plain"}


_LIMITS = (
    ("CHKUSER_RCPTLIMIT", "maxrcpt"),
    ("CHKUSER_WRONGRCPTLIMIT", "brtlimit"),
    ("MAXRECIPIENTS", "maxrcpt"),
    ("MAX_RCPT_ERRCOUNT", "brtlimit"),
)


def _rcptcheck_settings(profile: Profile, one: Listener) -> dict[str, Any]:
    """chkuser's limits in the default rule hold for everybody; its look-up of users is that of existence."""
    found: dict[str, Any] = {} if chkuser(one) else {"existence": False}
    program = one.environment.get("RCPTCHECK", "")
    if program and not one.counts_recipients and not one.is_fork("L"):
        found["program"] = program
        if one.on("RCPTCHECKRELAYCLIENT"):
            found["program_for_relays"] = True
    default = one.rules.default if one.rules else None
    for name, setting in _LIMITS:
        value = one.environment.get(name) or (default.get(name) if default else None) or ""
        if not value and name == "MAXRECIPIENTS" and one.reads("maxrecipients"):
            value = str(one.survey.number("maxrecipients"))
        if value.isdecimal() and int(value[:9]) > 0:
            found[setting] = int(value[:9])
    return found


_OWN = {
    "tarpit": _tarpit_settings,
    "dkim": _dkim_settings,
    "rcptcheck": _rcptcheck_settings,
    "tls": _tls_settings,
    "auth": _auth_settings,
    "dnsbl": _dnsbl_settings,
    "qmailqueue": _qmailqueue_settings,
    "badmail": _badmail_settings,
}
