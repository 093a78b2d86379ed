"""What becomes of names for which it does not follow from who reads them: tables, with the words for a person.

carried       pluq reads the same file or variable with the same meaning
changed       the effect is kept in another form
not_carried   known, but lost, or the value cannot be used
unused        nothing at this site reads it or lets it act
"""

from __future__ import annotations

import re

from pluq.migrate.tree import DANGLING, DENIED, FOLDER, LOOP, OTHER, OUTSIDE

CARRIED, CHANGED, NOT_CARRIED, UNUSED = "carried", "changed", "not_carried", "unused"

FOLDERS = [
    "domainkeys",
    "tlshosts",
    "notlshosts",
    "servercerts",
    "overlimit",
    "cache",
    "certs",
    "defaultqueue",
    "signatures",
    "dkim",
    "samples",
]
WHY = {
    LOOP: "a link that leads in a circle",
    DANGLING: "a link to something that is not there",
    OUTSIDE: "a link that leaves the root of the site",
    DENIED: "it cannot be opened",
    OTHER: "a pipe, socket or device where a file belongs",
    FOLDER: "a folder where a file belongs",
}
# Files whose fate does not follow from who owns them.
FIXED_FILES = {
    "authsender": (
        UNUSED,
        "documented under this name, but the program opened authsenders; rename it if its routes are wanted",
    ),
    "servercert.cnf": (UNUSED, "only openssl read it, to make the certificate"),
    "cache": (UNUSED, "the resolver keeps answers for as long as DNS says"),
    "cachelifetime": (UNUSED, "the resolver keeps answers for as long as DNS says"),
    "dkim": (
        NOT_CARRIED,
        "read by the program in place of qmail-remote; put its keys into control/domainkeys/DOMAIN/SELECTOR for the plugin dkim",
    ),
    "fixsmtpio": (NOT_CARRIED, "fixsmtpio edited SMTP replies; pluq sends its own"),
    "badhelonorelay": (CHANGED, "it was compared with the sender by mistake; pluq compares it with the HELO name"),
    "conf-common": (CHANGED, "its values stand in the profiles of pluq.toml"),
    "defaultqueue": (NOT_CARRIED, "variables of programs that inject mail; give them to the environment of those"),
    "defaultdelivery": (CARRIED, ""),
    "pluq.toml": (CARRIED, ""),
    "timeoutread": (NOT_CARRIED, "timeoutsmtpd and timeoutremote hold under TLS as well"),
    "timeoutwrite": (NOT_CARRIED, "timeoutsmtpd and timeoutremote hold under TLS as well"),
}
EPHEMERAL = re.compile(r"(dh|rsa)[0-9]+\.pem")
# Variables whose effect is kept though no setting has their name: what does it.
KEPT = {
    "DKIMQUEUE": "the list of plugins is the chain",
    "SURBLQUEUE": "the list of plugins is the chain",
    "DKQUEUE": "the list of plugins is the chain",
    "SURBL": "the plugin is in the list",
    "ENABLE_SPP": "the plugin spp is in the list",
    "HELO_DNS_CHECK": "read by the plugin program itself; give it to the environment of pluq",
    "RELAYCLIENT_NODKIMVERIFY": "clients that may relay are signed for, not verified",
    "UCSPITLS": "tls of the profile",
    "CERTFILE": "tls.certificate of the profile",
    "KEYFILE": "tls.key of the profile, or the file of the certificate",
    "SERVERCERT": "tls.certificate of the profile",
    "TLS_SERVER_CERT": "tls.certificate of the profile",
    "CERTDIR": "tls.certificate of the profile",
    "STARTTLS": "the plugin tls is in the list",
    "SMTPS": "tls.implicit of the profile",
    "FORCE_TLS": "tls.required of the profile",
    "FORCETLS": "AUTH is offered only under TLS unless auth.without_tls says otherwise",
    "DISABLETLS": "the profile says itself whether it has TLS",
    "DENY_TLS": "the profile has no TLS",
    "SMTPAUTH": "auth.mechanisms and auth.required of the profile",
    "REQUIRE_AUTH": "auth.required of the profile",
    "REQUIREAUTH": "auth.required of the profile",
    "SECURE_AUTH": "AUTH is offered only under TLS",
    "ALLOW_INSECURE_AUTH": "auth.without_tls of the profile",
    "ALLOW_CRAM": "auth.mechanisms of the profile",
    "CHKUSER_START": "the plugin rcptcheck is in the list",
    "CHKUSER_RCPTLIMIT": "rcptcheck.maxrcpt of the profile, from the default rule",
    "CHKUSER_WRONGRCPTLIMIT": "rcptcheck.brtlimit of the profile, from the default rule",
    "MFDNSCHECK": "badmail.mfcheck of the profile",
    "ANTISPOOFING": "auth.force_sender of the profile",
    "CHECKSENDER": "auth.force_sender of the profile",
    "MASQUERADE": "auth.force_sender of the profile",
    "DISABLE_AUTH_LOGIN": "auth.mechanisms of the profile",
    "DISABLE_AUTH_PLAIN": "auth.mechanisms of the profile",
    "DISABLE_CRAM_MD5": "auth.mechanisms of the profile",
    "MAXRECIPIENTS": "rcptcheck.maxrcpt of the profile",
    "MAX_RCPT_ERRCOUNT": "rcptcheck.brtlimit of the profile",
    "SSL": "tls.implicit of the profile",
    "RBLCOMMAND": "the plugin dnsbl asks its lists",
    "RCPTCHECK": "a plugin asks instead",
    "RCPTCHECKRELAYCLIENT": "a plugin asks instead",
    "QMAILQUEUE": "the list of plugins is the chain",
    "DKSIGN": "DomainKeys is obsolete; dkim signs",
    "DKVERIFY": "DomainKeys is obsolete; dkim verifies",
    "MAXDAEMONS": "concurrency of the profile",
    "MAXPERIP": "per_address of the profile",
    "GREETDELAY": "tarpit.greet_delay of the profile",
    "CHECKRECIPIENT": "the plugin rcptcheck is in the list",
    "GREYIP": "the plugin greylist is in the list",
    "DANE_VERIFICATION": "the plugin dane is in the list of [remote]",
    "QREGEX": "badmail.match of the profile",
    "BADHELOCHECK": "the plugin badmail is in the list",
    "VALIDRCPTTO_CDB": "the plugin rcptcheck is in the list",
}
# Values by which a variable that is set switches nothing, where more counts than that it is set.
OFF = {
    **dict.fromkeys(
        ("FORCE_TLS", "DENY_TLS", "ALLOW_INSECURE_AUTH", "ALLOW_CRAM", "SSL", "REQUIRE_AUTH", "REQUIREAUTH", "RELAYREJ", "MFCHECK",
         "SPFBEHAVIOR", "DROP_PRE_GREET", "SMTPD_GREETDELAY", "GREETDELAY", "FORCEAUTHMAILFROM", "RCPTCHECKRELAYCLIENT",
         "SPF_LOG", "VALIDRCPTTO_LOG"),
        ("0",),
    ),
    "SMTPAUTH": ("-", "0"), "CHKUSER_START": ("none", ""), "GREYIP": ("",), "QMAILQUEUE": ("",), "VALIDRCPTTO_CDB": ("",),
}  # fmt: skip
LOST = {
    "HELOCHECK": (NOT_CARRIED, "names without an address in DNS are not refused; write bad ones into control/badhelo"),
    "LOCALMFCHECK": (NOT_CARRIED, "auth.force_sender ties senders to logins"),
    "RECIPIENTS450": (NOT_CARRIED, "unknown recipients are refused for good"),
    **dict.fromkeys(
        (
            "RELAY_CTRL_DIR_FD",
            "RELAY_CTRL_LOG_ENV",
            "RELAY_CTRL_LOG_IPS",
            "RELAY_CTRL_PORT",
            "RELAY_CTRL_REMOTES",
            "RELAY_CTRL_TIMEOUT",
            "RELAY_CTRL_TRIES",
        ),
        (UNUSED, "only relay-ctrl's own programs use it, and they go on"),
    ),
    **dict.fromkeys(("QUEUE_BASE", "QUEUE_COUNT", "QUEUE_START"), (NOT_CARRIED, "pluq has one queue, in its home")),
    **dict.fromkeys(("CONTROLDIR", "SYSCONFDIR"), (CHANGED, "pluq finds its home by PLUQ_HOME")),
    "CHECKRELAY": (NOT_CARRIED, "the table of addresses in MySQL is not read; see the plugin popauth for files"),
    "RELAY_CLEAR_MINUTES": (NOT_CARRIED, "the table of addresses in MySQL is not read; see popauth.seconds"),
    "OPEN_SMTP": (UNUSED, "vchkpw writes into the cdb of the rules, which is read anew when it changes"),
    "CACHELIFETIME": (UNUSED, "the resolver keeps answers for as long as DNS says"),
    "BADMIMETYPE": (
        NOT_CARRIED,
        "attachments are not judged by their first bytes; a program in qmailqueue.program can",
    ),
    "BADLOADERTYPE": (
        NOT_CARRIED,
        "attachments are not judged by their first bytes; a program in qmailqueue.program can",
    ),
    "DHFILE": (UNUSED, "key exchange needs no parameters any more"),
    "SSL_UID": (UNUSED, "pluq drops to its own users"),
    "SSL_GID": (UNUSED, "pluq drops to its own users"),
    "SSL_CHROOT": (UNUSED, "pluq drops to its own users and changes no root"),
    "ALLOW_BARELF": (NOT_CARRIED, "bare line feeds let mail be smuggled in; pluq refuses them"),
    "HONOR_BODYLENGTHTAG": (NOT_CARRIED, "setting it switched the feature off"),
    "NOBADHELO": (NOT_CARRIED, "the patch never read it, or badhelo must be emptied"),
}
# The files that a plugin reads though no setting of it has their name. A plugin that is not here reads all that it owns.
READ_BY = {
    "badmail": "badhelo badhelonorelay badmailfrom badmailfromnorelay badmailto badmailtonorelay badrcptto badrcpttonorelay qregex",
    "rcptcheck": "validrcptto validrcptto.cdb morevalidrcptto morevalidrcptto.cdb goodrcptto morebadrcptto morebadrcptto.cdb",
    "tls": "servercert.pem clientca.pem clientcrl.pem clientcert.pem servercerts tlshosts notlshosts tlsclients",
    "auth": "authsenders smtproutes",
    "dkim": "domainkeys dkimkeys filterargs",
    "spp": "smtpplugins",
    "taps": "taps extraqueue",
    "qmailqueue": "simcontrol simcontrol.cdb simversions.cdb ssattach smtpfilters qfilters",
    "spf": "", "srs": "", "dnsbl": "", "tarpit": "", "size": "", "bounce": "",
}  # fmt: skip
CORE_RULES = ("RELAYCLIENT", "DATABYTES")
CORE_CARRIED = ("QMAILLOCAL", "QMAILREMOTE")


# Where one feature's names are read by several plugins.
_STANDS_IN = {
    "qfilter": ("qfilter", "qmailqueue", "dkim"),
    "qmailqueue": ("qmailqueue", "dkim", "surbl", "qfilter"),
    "rcptcheck": ("rcptcheck", "ratelimit"),
    "badmail": ("badmail", "rcptcheck"),
}


def doing(owner: str) -> tuple[str, ...]:
    """Return the plugins that may do the work of one."""
    return _STANDS_IN.get(owner, (owner,))
