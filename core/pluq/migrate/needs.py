"""Which plugins do at a listener, and for the other roles, what the site's patches did: each with the reason.

One function each. They say what is needed, installed or not; the caller leaves out what is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pluq.migrate import chain as chains
from pluq.migrate.known import control_file
from pluq.migrate.listener import Listener
from pluq.migrate.recognise import LETTERS, all_rules, fork, route_has_login
from pluq.migrate.survey import Survey

# The order in which plugins stand in a list: cheap and early first.
ORDER = [
    "ipv6",
    "size",
    "dane",
    "tls",
    "auth",
    "popauth",
    "eai",
    "tarpit",
    "acl",
    "dnsbl",
    "greylist",
    "badmail",
    "spf",
    "batv",
    "rcptcheck",
    "ratelimit",
    "spp",
    "dkim",
    "surbl",
    "qfilter",
    "qmailqueue",
    "taps",
    "envrules",
    "bind",
    "qmtp",
    "srs",
    "bounce",
    "quota",
]
USUAL_NAMES = {25: "smtp", 587: "submission", 465: "submissions"}
BADMAIL_FILES = [
    "badhelo",
    "badhelonorelay",
    "badhost",
    "badip",
    "badmailfromnorelay",
    "badmailfrom-unknown",
    "badmailpatterns",
    "badmailto",
    "badmailtonorelay",
    "badrcptto",
    "badrcpttonorelay",
    "badrcptpatterns",
    "morebadrcptto",
    "morebadrcptto.cdb",
    "blackholedrcpt",
    "blackholedsender",
    "blackholedpatterns",
    "blackholedrcptpatterns",
    "goodmailfrom",
]
BADMAIL_NUMBERS = ("mfcheck", "rejectnullsenders", "rejectrelaytest")
BADMAIL_VARIABLES = [
    "MFCHECK",
    "REJECTNULLSENDERS",
    "RELAYREJ",
    "BADHELOCHECK",
    "BADHOSTCHECK",
    "BADIPCHECK",
    "BLACKHOLEDRCPT",
    "BLACKHOLEDSENDER",
    "GMFCHECK",
]
RCPTCHECK_LISTS = [
    "validrcptto",
    "morevalidrcptto",
    "morevalidrcptto.cdb",
    "goodrcptto",
    "goodrcptpatterns",
    "chkrcptdomains",
    "chksenderdomains",
]
# The lists and limits that hold for clients that may relay as well.
RCPTCHECK_LIMITS = ("morebadrcptto", "morebadrcptto.cdb", "maxrcpt", "brtlimit", "maxrecipients")
RCPTCHECK_VARIABLES = ("VALIDRCPTTO_CDB", "CHECKRECIPIENT", "MAXRCPT", "BRTLIMIT", "MAXRECIPIENTS")
# Filters of indimail that a variable alone switches on.
FILTERING = ("QHPSI", "SPAMFILTER", "VIRUSCHECK", "BODYCHECK", "BADEXT", "BADEXTPATTERNS", "QUARANTINE", "FILTERARGS")
DELAYS = ("SMTPD_GREETDELAY", "GREETDELAY", "TARPITCOUNT", "TARPITDELAY")


@dataclass
class Profile:
    """A listener as a profile, or a role. `needs` are the plugins with the reason for each; `settings` are theirs in TOML."""

    name: str
    listen: list[str] = field(default_factory=list)
    tls: str = "none"
    auth: str = "none"
    needs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    services: list[str] = field(default_factory=list)
    listener: Listener | None = None
    clear_auth: bool = False

    @property
    def port(self) -> int:
        return int(self.listen[0].rpartition(":")[2]) if self.listen else 0

    def ordered(self) -> list[str]:
        return sorted(self.needs, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


# -- plugins of a listener: one function each, returning the reason or ""


def _ipv6(one: Listener) -> str:
    return "listens on IPv6" if (one.address or "").startswith("[") else ""


def _size(one: Listener) -> str:
    return "the fork announces SIZE" if one.is_fork("SGJTIE") and one.server.name == "qmail-smtpd" else ""


def _tls(one: Listener) -> str:
    return f"TLS is {one.tls}" if one.tls != "none" else ""


def _auth(one: Listener) -> str:
    return f"AUTH is {one.auth}" if one.auth != "none" else ""


def _popauth(one: Listener) -> str:
    if one.launch.chain.find("relay-ctrl-check"):
        return "relay-ctrl-check"
    return "CHECKRELAY" if one.is_fork("I") and one.set("CHECKRELAY") else ""


def _tarpit(one: Listener) -> str:
    for name in DELAYS:
        if any(value.strip() not in ("", "0") for value in one.values(name)):
            return name
    file = next((name for name in ("greetdelay", "tarpitcount") if one.reads(name) and one.survey.number(name)), "")
    return f"control/{file}" if file else "spamdyke" if one.spamdyke.get("greeting-delay-secs", "0") != "0" else ""


def _acl(one: Listener) -> str:
    files = ("policy", "accesslist", "hostaccess", "relayclients", "relaydomains", "relaymailfrom")
    return next((f"control/{name}" for name in files if one.reads(name) and one.survey.has(name)), "")


def _dnsbl(one: Listener) -> str:
    if one.launch.chain.find("rblsmtpd"):
        return "rblsmtpd"
    if "dns-blacklist-entry" in one.spamdyke:
        return "spamdyke"
    if one.auth == "required":
        return ""
    if one.reads("rbllist") and one.survey.has("rbllist") and one.set("RBL"):
        return "control/rbllist"
    return "control/dnsbllist" if one.reads("dnsbllist") and one.survey.lines("dnsbllist") else ""


def _greylist(one: Listener) -> str:
    wrapper = one.launch.chain.find("jgreylist", "greylite", "qgreylist")
    if wrapper:
        return wrapper.name
    if one.spamdyke.get("graylist-level", "always" if "graylist-dir" in one.spamdyke else "none") not in ("none", ""):
        return "spamdyke"
    return "GREYIP" if one.is_fork("I") and one.environment.get("GREYIP") else ""


def _badmail(one: Listener) -> str:
    survey = one.survey
    for name in BADMAIL_FILES:
        if one.reads(name) and (survey.lines(name) or (name.endswith(".cdb") and survey.has(name))):
            return f"control/{name}"
    if one.is_fork("SGTJ") and survey.lines("badmailfrom"):
        return "control/badmailfrom"
    for name in BADMAIL_NUMBERS:
        if one.reads(name) and survey.number(name):
            return f"control/{name}"
    if one.is_fork("E") and one.values("MFDNSCHECK"):
        return "MFDNSCHECK"
    return next((name for name in BADMAIL_VARIABLES if any(v not in ("", "0") for v in one.values(name))), "")


def _spf(one: Listener) -> str:
    if one.auth == "required":
        return ""
    values = [value for value in one.values("SPFBEHAVIOR") if value[:1].isdecimal() and value[:1] != "0"]
    if values:
        return "SPFBEHAVIOR"
    readable = one.reads("spfbehavior") and (one.is_fork("SIJT") or one.survey.says("qmail-smtpd", "spfbehavior"))
    return "control/spfbehavior" if readable and one.survey.number("spfbehavior") else ""


def _rcptcheck(one: Listener) -> str:
    if chkuser(one):
        return chkuser(one)
    if any("overlimit" not in value and value for value in one.values("RCPTCHECK")) and not one.is_fork("L"):
        return "RCPTCHECK"
    for name in RCPTCHECK_LISTS:
        if one.reads(name) and one.survey.has(name) and one.auth != "required":
            return f"control/{name}"
    for name in RCPTCHECK_LIMITS:
        if one.reads(name) and (one.survey.number(name) or (name.startswith("more") and one.survey.has(name))):
            return f"control/{name}"
    return next((name for name in RCPTCHECK_VARIABLES if any(v not in ("", "0") for v in one.values(name))), "")


def chkuser(one: Listener) -> str:
    """Return what switches chkuser on, "" where it is off."""
    if any(value.strip().upper() not in ("", "NONE") for value in one.values("CHKUSER_START")):
        return "CHKUSER_START"
    limits = one.values("CHKUSER_RCPTLIMIT") or one.values("CHKUSER_WRONGRCPTLIMIT")
    # Without a variable that starts it, chkuser was compiled to be on.
    always = one.is_fork("T") or (not one.is_fork("S") and one.survey.says("qmail-smtpd", "CHKUSER", "chkuser"))
    return "CHKUSER_RCPTLIMIT" if always and limits else ""


def _ratelimit(one: Listener) -> str:
    if any("overlimit" in value for value in one.values("RCPTCHECK")):
        return "RCPTCHECK"
    return "RATELIMIT_DIR" if one.set("RATELIMIT_DIR") else ""


def _spp(one: Listener) -> str:
    survey = one.survey
    file = one.environment.get("SPPCONFFILE", "control/smtpplugins")
    text = survey.text_of(file if file.startswith("/") else f"{survey.home}/{file}")
    if not any(line.strip() and not line.startswith(("#", "[")) for line in text.splitlines()):
        return ""
    if one.is_fork("S"):
        return "ENABLE_SPP" if one.on("ENABLE_SPP") else ""
    has_patch = survey.says("qmail-smtpd", "NOSPP", "smtpplugins", "qmail-spp")
    return file if has_patch and not one.set("NOSPP") else ""


def _dkim(one: Listener) -> str:
    found = next((p for p in one.queue_programs if chains.base(p.split()[0]) in ("qmail-dkim", "qmail-dk")), "")
    if found:
        return found
    return next((name for name in ("DKIMVERIFY", "DKIMSIGN", "DKVERIFY", "DKSIGN") if one.values(name)), "")


def _surbl(one: Listener) -> str:
    inside = any(chains.base(program.split()[0]).startswith("surbl") for program in one.queue_programs)
    return "SURBL" if inside and one.set("SURBL") else ""


def _qfilter(one: Listener) -> str:
    names = FILTERING if one.is_fork("I") else ("QHPSI",) if one.is_fork("E") else ()
    return next((name for name in names if any(value for value in one.values(name))), "")


def _qmailqueue(one: Listener) -> str:
    return f"QMAILQUEUE: {one.external_queue}" if one.external_queue else ""


def _envrules(one: Listener) -> str:
    files = ("from.envrules", "rcpt.envrules", "auth.envrules")
    return next((f"control/{name}" for name in files if one.reads(name) and one.survey.has(name)), "")


def _batv(one: Listener) -> str:
    return "control/batvkey" if one.is_fork("I") and one.survey.has("batvkey") else ""


def _eai(one: Listener) -> str:
    if one.is_fork("I"):
        return "SMTPUTF8" if one.set("SMTPUTF8") else ""
    return "the fork announces SMTPUTF8" if one.survey.says("qmail-smtpd", "SMTPUTF8") else ""


NEEDS = {
    "ipv6": _ipv6, "size": _size, "tls": _tls, "auth": _auth, "popauth": _popauth, "tarpit": _tarpit, "acl": _acl,
    "dnsbl": _dnsbl, "greylist": _greylist, "badmail": _badmail, "spf": _spf, "rcptcheck": _rcptcheck,
    "ratelimit": _ratelimit, "spp": _spp, "dkim": _dkim, "surbl": _surbl, "qfilter": _qfilter, "qmailqueue": _qmailqueue, "envrules": _envrules,
    "batv": _batv, "eai": _eai,
}  # fmt: skip
# What ofmipd does not do: it is qmail-smtpd that these patches change.
ONLY_SMTPD = set(NEEDS) - {"ipv6", "tls", "auth", "popauth", "dnsbl", "greylist", "qmailqueue", "dkim", "surbl"}


def profile_of(one: Listener) -> Profile:
    """Return the profile of a listener, without a name and settings."""
    found = Profile(
        "", [one.address] if one.address else [], one.tls, one.auth, listener=one, clear_auth=one.clear_auth
    )
    for name, why in NEEDS.items():
        if name in ONLY_SMTPD and one.server.name != "qmail-smtpd":
            continue
        reason = why(one)
        if reason:
            found.needs[name] = reason
    found.services.append(one.service.name)
    return found


# -- the other roles


def remote_needs(survey: Survey) -> dict[str, str]:
    """Return the plugins of outgoing delivery, each with the reason."""
    name = fork(survey)[0]
    letters = set(LETTERS[name])
    needs: dict[str, str] = {}
    if letters & set("SGITJLE") or survey.says("qmail-remote", "tlshosts", "clientcert.pem"):
        needs["tls"] = "qmail-remote of this fork speaks TLS"
    logins = any(route_has_login(line) for _, line in survey.lines("smtproutes"))
    if (logins and letters & set("SGIN")) or (survey.lines("authsenders") and letters & set("SNE")):
        needs["auth"] = "logins to relays"
    reason = _remote_dkim(survey)
    if reason:
        needs["dkim"] = reason
    files = [n for n in ("outgoingip", "domainbindings", "bindroutes", "helohostbyip") if survey.lines(n)]
    files = [n for n in files if (known := control_file(n)) and letters & set(known.forks)]
    if files:
        needs["bind"] = f"control/{files[0]}"
    if has_srs(survey):
        needs["srs"] = "control/srs_domain"
    if survey.says("qmail-remote", "SMTPUTF8"):
        needs["eai"] = "qmail-remote of this fork knows SMTPUTF8"
    if letters & set("I"):
        needs |= _remote_indimail(survey)
    return needs


def _remote_dkim(survey: Survey) -> str:
    for _, _, setting in survey.settings("QMAILREMOTE"):
        if "spawn-filter" in setting.value and "dkim" in (
            survey.controls["filterargs"].text if survey.has("filterargs") else ""
        ):
            return "control/filterargs"
    if survey.says("qmail-remote", "DKIMSIGN", "dkimsign", "Mail::DKIM"):
        return "bin/qmail-remote"
    if survey.folder("domainkeys") and any(
        rules.values("DKSIGN") or rules.values("DKIMSIGN") for rules in all_rules(survey)
    ):
        return "DKSIGN"
    return ""


def _remote_indimail(survey: Survey) -> dict[str, str]:
    needs = {}
    if any(True for _ in survey.settings("DANE_VERIFICATION")) or survey.has("tlsadomains"):
        needs["dane"] = "DANE_VERIFICATION"
    if survey.has("qmtproutes"):
        needs["qmtp"] = "control/qmtproutes"
    if survey.has("batvkey"):
        needs["batv"] = "control/batvkey"
    if any(True for _ in survey.settings("DKIMSIGN")) or survey.has("dkimkeys"):
        needs["dkim"] = "DKIMSIGN"
    return needs


def has_srs(survey: Survey) -> bool:
    patched = set(LETTERS[fork(survey)[0]]) & set("STDI") or survey.says("qmail-local", "srs_domain")
    return bool(patched) and survey.has("srs_domain") and bool(survey.controls["srs_domain"].line)


def queue_needs(survey: Survey) -> dict[str, str]:
    letters = set(LETTERS[fork(survey)[0]])
    for name in ("taps", "mailarchive", "extraqueue", "bigbrother"):
        known = control_file(name)
        reads = (known and letters & set(known.forks)) or survey.says("qmail-queue", f"control/{name}")
        if reads and survey.lines(name):
            return {"taps": f"control/{name}"}
    return {}


def local_needs(survey: Survey) -> dict[str, str]:
    needs = {"srs": "control/srs_domain"} if has_srs(survey) else {}
    if fork(survey)[0] == "sagredo":
        needs["quota"] = "qmail-local of this fork keeps Maildir++ quotas"
    return needs


def send_needs(survey: Survey) -> dict[str, str]:
    letters = set(LETTERS[fork(survey)[0]])
    for name in ("bouncemaxbytes", "bouncesubject", "bouncemessage", "bouncelifetime", "doublebouncemessage"):
        known = control_file(name)
        if survey.has(name) and known and letters & set(known.forks):
            return {"bounce": f"control/{name}"}
    return {}


ROLE_NEEDS = {"remote": remote_needs, "queue": queue_needs, "local": local_needs, "send": send_needs}
