"""Every control file that qmail and its patches are known to read, and what of pluq uses each.

The owner is "core" (always read), a plugin's name (read where a profile enables it), "service" (read by run scripts and by
whoever supervises them), or "none" (pluq has nothing for it). A name that ends in * stands for all names that begin so; one
that ends in / is a folder. Meanings are for a person who finds the file and wonders.

Source: qmail-control(5); the manual pages of the combined patches, of indimail-mta and of qmail-ldap.
"""

from __future__ import annotations

from typing import NamedTuple

CORE = "core"
SERVICE = "service"
NONE = "none"


class ControlFile(NamedTuple):
    """One control file, or a family of them: names, who uses it, what it says."""

    names: str
    owner: str
    meaning: str


INVENTORY = (
    ControlFile("pluq.toml", CORE, "profiles and plugins"),
    # qmail's own
    ControlFile("badmailfrom", "badmail", "refused envelope senders; the core reads plain addresses and @domains"),
    ControlFile("bouncefrom bouncehost", CORE, "sender of bounces"),
    ControlFile("concurrencylocal concurrencyremote", CORE, "deliveries at the same time"),
    ControlFile("databytes", CORE, "largest message in bytes, 0 for any"),
    ControlFile("defaultdomain defaulthost plusdomain idhost", CORE, "how qmail-inject completes addresses"),
    ControlFile("doublebouncehost doublebounceto", CORE, "who gets bounces of bounces"),
    ControlFile("envnoathost", CORE, "domain of recipients without one"),
    ControlFile("helohost", CORE, "name that qmail-remote greets with"),
    ControlFile("localiphost", CORE, "name that stands for this host's [IP address] in recipients"),
    ControlFile("locals", CORE, "domains delivered here"),
    ControlFile("me", CORE, "name of this host"),
    ControlFile("percenthack", CORE, "domains whose user%host addresses are taken apart"),
    ControlFile("qmqpservers", CORE, "addresses to which qmail-qmqpc gives mail"),
    ControlFile("queuelifetime", CORE, "seconds until a message bounces"),
    ControlFile("rcpthosts morercpthosts morercpthosts.cdb", CORE, "domains that anybody may send to"),
    ControlFile("smtpgreeting", CORE, "first line of the SMTP server"),
    ControlFile(
        "smtproutes", CORE, "routes that override MX; a third and fourth field are a login for the auth plugin"
    ),
    ControlFile("timeoutconnect timeoutremote timeoutsmtpd", CORE, "seconds to wait for a peer"),
    ControlFile("virtualdomains", CORE, "domains and users that belong to a local user"),
    # SMTP: who may send what to whom
    ControlFile("accesslist hostaccess policy", "acl", "rules on sender, recipient and host"),
    ControlFile("relayclients relaydomains relaymailfrom", "acl", "who may relay: addresses, names, senders"),
    ControlFile("badhelo badhelonorelay", "badmail", "refused HELO names"),
    ControlFile("badhost badip", "badmail", "refused client names and addresses"),
    ControlFile("badmailfromnorelay badmailfrom-unknown badmailpatterns", "badmail", "refused senders of some clients"),
    ControlFile("badmailto badmailtonorelay", "badmail", "former names of badrcptto and badrcpttonorelay"),
    ControlFile("badrcptto badrcpttonorelay badrcptpatterns", "badmail", "refused recipients"),
    ControlFile("morebadrcptto morebadrcptto.cdb", "badmail", "refused recipients, a long list"),
    ControlFile("blackholedrcpt blackholedsender", "badmail", "mail that is accepted and thrown away"),
    ControlFile("blackholedpatterns blackholedrcptpatterns", "badmail", "the same with wildcards"),
    ControlFile("brtlimit", "badmail", "refused recipients until the session ends"),
    ControlFile("goodmailfrom", "badmail", "senders that are not checked"),
    ControlFile("maxrcpt maxrecipients maxrcptcount", "badmail", "recipients of one message"),
    ControlFile("mfcheck nodnscheck", "badmail", "whether the sender's domain must have an MX"),
    ControlFile("qregex", "badmail", "whether lists hold regular expressions"),
    ControlFile("rejectnullsenders rejectrelaytest", "badmail", "whether <> and relay tests are refused"),
    ControlFile("chkrcptdomains chksenderdomains", "rcptcheck", "domains whose addresses must exist"),
    ControlFile("goodmailaddr goodrcptto goodrcptpatterns", "rcptcheck", "recipients that need not exist"),
    ControlFile(
        "validrcptto validrcptto.cdb morevalidrcptto morevalidrcptto.cdb", "rcptcheck", "recipients that exist"
    ),
    ControlFile("recipients rcptdomains", "rcptcheck", "where to ask whether a recipient exists"),
    ControlFile("relaylimits overlimit/", "ratelimit", "recipients per sender and day"),
    ControlFile("smtpplugins", "spp", "external programs at each SMTP command"),
    ControlFile("dnsbllist dnsblfailclosed", "dnsbl", "block lists that are asked about clients"),
    ControlFile("rbllist rblonlyheader", "dnsbl", "block lists of qmail-ldap"),
    ControlFile("greylist.white", "greylist", "who is not greylisted"),
    ControlFile("greetdelay tarpitcount tarpitdelay earlytalkerdroptime", "tarpit", "delays for suspicious clients"),
    ControlFile("spfbehavior spfexp spfguess spfrules spfipv6 spfignore", "spf", "how sender policies are judged"),
    # authentication and TLS
    ControlFile("authsenders remote_auth.cdb", "auth", "logins for outgoing mail"),
    ControlFile("passwords sendas", "auth", "who may log in, and send as whom"),
    ControlFile("authdomains realm", "auth", "who must log in, and where"),
    ControlFile("servercert.pem servercert.cnf servercerts/", "tls", "the server's key and certificates"),
    ControlFile("clientcert.pem clientca.pem clientcrl.pem certs/", "tls", "certificates of and for peers"),
    ControlFile("clientcipherlist clientciphersuite servercipherlist serverciphersuite", "tls", "ciphers"),
    ControlFile("tlsclientciphers tlsserverciphers tlsciphers tlsremoteciphers", "tls", "ciphers"),
    ControlFile("tlsclientmethod tlsservermethod tlsdheparams", "tls", "protocol versions and key exchange"),
    ControlFile("dh512.pem dh1024.pem dh2048.pem dh4096.pem", "tls", "key exchange parameters, no longer needed"),
    ControlFile("rsa512.pem rsa1024.pem rsa2048.pem rsa4096.pem", "tls", "temporary keys, no longer needed"),
    ControlFile("smtpcert remotecert", "tls", "certificates of qmail-ldap"),
    ControlFile("timeoutread timeoutwrite", "tls", "seconds to wait under TLS"),
    ControlFile("tlsclients", "tls", "clients whose certificate lets them relay"),
    ControlFile("tlshosts/ notlshosts/ notlshosts notlshosts_auto", "tls", "hosts with which TLS must or must not be"),
    ControlFile("tlsadomains tlsa.white", "dane", "domains with and without DANE"),
    # signatures and addresses
    ControlFile("authservid", CORE, "name in Authentication-Results, else me"),
    ControlFile("dkimkeys domainkeys/", "dkim", "keys that sign outgoing mail"),
    ControlFile("signaturedomains nosignaturedomains", "dkim", "domains that must and need not sign"),
    ControlFile("srs_alwaysrewrite srs_domain srs_hashlength srs_hashmin", "srs", "sender rewriting"),
    ControlFile("srs_maxage srs_secrets srs_separator", "srs", "sender rewriting"),
    ControlFile("batvkey batvkeystale batvnosignlocals batvnosignremote", "batv", "signed bounce addresses"),
    # content
    ControlFile("defaultqueue/", "qmailqueue", "variables of injecting programs"),
    ControlFile(
        "qfilters smtpfilters localfilters remotefilters filterargs", "qfilter", "programs that see each message"
    ),
    ControlFile("badext badextpatterns bodycheck disclaimer quarantine signatures", "qfilter", "checks on content"),
    ControlFile("badloadertypes badloadertypes.cdb badmimetypes badmimetypes.cdb", "qfilter", "refused attachments"),
    ControlFile("envheaders logheaders removeheaders", "qfilter", "header fields that are kept, logged or removed"),
    ControlFile("globalspamredirect rejectspam spamfilter spamredirect", "qfilter", "what is done with spam"),
    ControlFile("simcontrol simcontrol.cdb simversions.cdb ssattach", "qfilter", "read by simscan itself"),
    ControlFile("spamignore spamignorepatterns", "qfilter", "senders that no filter sees"),
    ControlFile("surbldomain surbldomainwhite surblrcpt", "surbl", "block lists for addresses in bodies"),
    ControlFile("cache/ cachelifetime level2-tlds level3-tlds", "surbl", "its cache and its tables"),
    # the way out
    ControlFile("outgoingip outgoingip.* domainbindings bindroutes helohostbyip qmqpcip", "bind", "source addresses"),
    ControlFile("moreipme notipme", CORE, "addresses that are, or are not, this host's"),
    ControlFile("qmtproutes", "qmtp", "routes by QMTP"),
    ControlFile("moresmtproutes.cdb", NONE, "more smtproutes"),
    ControlFile("queueforward redirectremote localdomains", NONE, "redirection of deliveries"),
    # queue, bounces, copies, quota
    ControlFile("bouncelifetime bouncemaxbytes bouncemessage bouncesubject", "bounce", "form and size of bounces"),
    ControlFile("doublebouncemessage doublebouncesubject", "bounce", "form of double bounces"),
    ControlFile("taps mailarchive extraqueue bigbrother", "taps", "who gets copies of what"),
    ControlFile("quotawarning custombouncetext defaultquotacount defaultquotasize", "quota", "quotas of qmail-ldap"),
    ControlFile("holdlocal holdremote", NONE, "whether deliveries wait"),
    ControlFile("concurrencysuppl* suppls*", NONE, "supplemental channels"),
    ControlFile("conf-fsync conf-syncdir", NONE, "whether the disk is waited for: it always is"),
    ControlFile("domainqueue qbase queue_base qcount msgqueuelen msgqueuesize todointerval", NONE, "several queues"),
    # variables per sender, recipient, login
    ControlFile("auth.envrules bounce.envrules from.envrules fromd.envrules rcpt.envrules", "envrules", "variables"),
    # limits and oddities of other forks
    ControlFile(
        "maxcmdlen maxdeliveredto maxhops originipfield smtpclustercookie", NONE, "limits and marks of other forks"
    ),
    ControlFile("aliasdomains aliasempty dirmaker ldap*", NONE, "settings of qmail-ldap"),
    # run scripts
    ControlFile("concurrencyincoming", SERVICE, "connections at the same time, for tcpserver -c"),
    ControlFile("defaultdelivery", SERVICE, "delivery instructions for qmail-start"),
    ControlFile("softlimit logcount logsize", SERVICE, "limits of memory and logs"),
    ControlFile(
        "conf-common conf-pop3d conf-qmqpd conf-qmtpd conf-send conf-smtpd", SERVICE, "settings of Gentoo's run files"
    ),
    ControlFile("atrnaccess etrnhosts", NONE, "who may ask for waiting mail"),
    ControlFile("dkimdomains domaincaps domaincerts domainips", NONE, "s/qmail: keys and addresses by domain"),
    ControlFile("tlsdestinations spflocalrules spfexplain", NONE, "s/qmail: TLS by destination, SPF"),
    ControlFile("host.cntrl host.master host.mysql hostid hostip mysql_lib libmysql servicedir.conf", NONE, "IndiMail"),
)


def find_control_file(name: str) -> ControlFile | None:
    """Return what is known of the file or folder `name` in the control directory; None if nobody knows it."""
    for entry in INVENTORY:
        if any(_matches(pattern, name) for pattern in entry.names.split()):
            return entry
    return None


def _matches(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern.removesuffix("/")
