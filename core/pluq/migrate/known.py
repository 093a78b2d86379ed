"""Which fork reads which control file and variable: the part of qmail's many descendants that a migration must know.

Lines are `FORKS: names` for control files and `FORKS OWNER: names` for variables; a name that ends in * stands for all that begin
so. What a control file is for and which plugin reads it stands in pluq.store.inventory. The letters:

    Q qmail, netqmail    N notqmail and its branches    S the combined (sagredo) patch     G Gentoo         I indimail
    T QMailToaster       J jms1                         K Dabrowski's AUTH patch alone     D UCSPI-TLS set  L qmail-ldap
    P qmail-spp alone    V vpopmail
    E s/qmail

Source: the manual pages and sources of those, compared.
"""

from __future__ import annotations

from typing import NamedTuple

# Control files.
_CONTROL = """
DEGIJKLNQST: badmailfrom bouncefrom bouncehost concurrencylocal concurrencyremote databytes defaultdelivery
DEGIJKLNQST: defaultdomain defaulthost doublebouncehost doublebounceto envnoathost helohost idhost plusdomain
DEGIJKLNQST: localiphost locals me morercpthosts morercpthosts.cdb percenthack qmqpservers queuelifetime
DEGIJKLNQST: rcpthosts smtpgreeting smtproutes timeoutconnect timeoutremote timeoutsmtpd virtualdomains
DIST: srs_alwaysrewrite srs_domain srs_hashlength srs_hashmin srs_maxage srs_secrets srs_separator
DL: goodmailfrom
G: conf-common conf-pop3d conf-qmqpd conf-qmtpd conf-send conf-smtpd morebadrcptto morebadrcptto.cdb
G: servercert.cnf
GI: holdlocal holdremote
GIJLST: badrcptto
GIJST: clientca.pem clientcrl.pem clientcert.pem
GILS: bouncemaxbytes
GIS: notlshosts
GIST: dh512.pem dh1024.pem dh2048.pem dh4096.pem tlsclientciphers tlsserverciphers tlsclients tlshosts
GJ: mfcheck
GJST: servercert.pem
GST: concurrencyincoming rsa512.pem rsa1024.pem rsa2048.pem rsa4096.pem
GT: badmailto badmailtonorelay
I: accesslist atrnaccess authdomains auth.envrules badext badextpatterns badhost badip badmailpatterns
I: badrcptpatterns batvkey batvkeystale batvnosignlocals batvnosignremote bindroutes blackholedpatterns
I: blackholedrcptpatterns blackholedrcpt blackholedsender bodycheck bounce.envrules bouncelifetime bouncemessage
I: bouncesubject certs chkrcptdomains chksenderdomains clientcipherlist clientciphersuite conf-fsync conf-syncdir
I: defaultqueue disclaimer domainbindings domainqueue doublebouncemessage doublebouncesubject
I: earlytalkerdroptime envheaders logheaders removeheaders etrnhosts extraqueue from.envrules fromd.envrules
I: globalspamredirect goodrcptpatterns goodrcptto greetdelay greylist.white helohostbyip hostaccess host.cntrl
I: host.master host.mysql hostid hostip localdomains mailarchive maxcmdlen maxdeliveredto maxhops maxrecipients
I: moresmtproutes.cdb msgqueuelen msgqueuesize mysql_lib libmysql nodnscheck originipfield qbase queue_base
I: qcount qmtproutes qregex quarantine queueforward redirectremote rcptdomains rcpt.envrules realm recipients
I: rejectspam spamfilter spamredirect remote_auth.cdb servercipherlist serverciphersuite servicedir.conf
I: spamignore spamignorepatterns spfipv6 timeoutread timeoutwrite tlsa.white tlsadomains tlsclientmethod
I: tlsservermethod todointerval
IJNST: spfbehavior spfexp spfguess spfrules
IJST: badhelo
IL: relayclients relaydomains relaymailfrom signatures tarpitcount tarpitdelay
ILNS: outgoingip
IS: cache cachelifetime dkimkeys dnsbllist filterargs level2-tlds level3-tlds moreipme notipme
IS: nosignaturedomains signaturedomains surbldomain surbldomainwhite surblrcpt
IST: domainkeys
J: validrcptto.cdb
JS: maxrcpt
JST: badmailfromnorelay badrcpttonorelay
L: aliasdomains aliasempty badmailfrom-unknown bigbrother dirmaker goodmailaddr ldap* maxrcptcount qmqpcip
L: quotawarning custombouncetext defaultquotacount defaultquotasize rbllist rblonlyheader smtpcert remotecert
L: smtpclustercookie tlsciphers tlsremoteciphers tlsdheparams
E: badhelo badloadertypes badmimetypes bouncemaxbytes dkimdomains domaincaps domaincerts domainips qmtproutes recipients
E: spfexplain spflocalrules srs_domain srs_maxage srs_secrets tlsdestinations authsenders badrcptto concurrencyincoming
N: localfilters remotefilters smtpfilters
NS: authsenders authsender
PS: smtpplugins
S: authservid badhelonorelay brtlimit concurrencysuppl0 concurrencysuppl* dnsblfailclosed morevalidrcptto
S: morevalidrcptto.cdb notlshosts_auto overlimit policy qfilters rejectnullsenders rejectrelaytest relaylimits
S: servercerts softlimit suppls0 suppls* taps validrcptto
ST: simcontrol simcontrol.cdb simversions.cdb ssattach
T: badloadertypes badloadertypes.cdb badmimetypes badmimetypes.cdb logcount logsize
"""

# Variables.
_VARIABLES = """
E badmail: MFDNSCHECK LOCALMFCHECK HELOCHECK
E rcptcheck: RECIPIENTS450
E spf: SPF
E qfilter: QHPSI BADMIMETYPE BADLOADERTYPE
D badmail: GMFCHECK
DEGIJKLNQST core: DEFAULT EXT EXT2 EXT3 EXT4 HOST HOST2 HOST3 HOST4 LOCAL RECIPIENT SENDER NEWSENDER DTLINE
DEGIJKLNQST core: RPLINE UFLINE HOME USER LOGNAME AGE MAIL MAILDIR MAILTMP MAILHOST MAILNAME MAILUSER NAME
DEGIJKLNQST core: QMAILDEFAULTDOMAIN QMAILDEFAULTHOST QMAILIDHOST QMAILINJECT QMAILMFTFILE QMAILNAME
DEGIJKLNQST core: QMAILPLUSDOMAIN QMAILSHOST QMAILSUSER QMAILHOST QMAILUSER RELAYCLIENT
DEGIJKLNQST popauth: RELAY_CTRL_DIR RELAY_CTRL_DIR_FD RELAY_CTRL_EXPIRY RELAY_CTRL_LOG_ENV RELAY_CTRL_LOG_IPS
DEGIJKLNQST popauth: RELAY_CTRL_PORT RELAY_CTRL_RELAYCLIENT RELAY_CTRL_REMOTES RELAY_CTRL_TIMEOUT
DEGIJKLNQST popauth: RELAY_CTRL_TRIES
DEGIJKLNQST service: TCPLOCALHOST TCPLOCALIP TCPLOCALPORT TCPREMOTEHOST TCPREMOTEINFO TCPREMOTEIP TCPREMOTEPORT
DIJT auth: REQUIRE_AUTH REQUIREAUTH
DN tls: SSLCTLFD SSLREADFD SSLWRITEFD UCSPITLS
DT dkim: DKQUEUE DKSIGN DKVERIFY
G service: QMAIL_CONTROLDIR SOFTLIMIT_OPTS MAXCONN LOG_DEST LOG_MAXCOUNT LOG_MAXSIZE LOG_OPTS NOFILESGID
G service: QMAILDUID QMAILLUID SERVICE TCPSERVER_HOST TCPSERVER_OPTS TCPSERVER_PORT TCPSERVER_RULESCDB
G service: QMAIL_DISABLE_SANITY_CHECK QMAIL_TCPSERVER_PRE QMAIL_MAILDIR QMAIL_SMTP_PRE QMAIL_SMTP_POST
G service: QMAIL_SMTP_CHECKPASSWORD QMAIL_SMTP_AUTHHOST QMAIL_POP3_PREAUTH QMAIL_POP3_POSTAUTH
G service: QMAIL_POP3_POP3HOST QMAIL_POP3_CHECKPASSWORD QMAIL_QMQP_PRE QMAIL_QMQP_POST QMAIL_QMTP_PRE
G service: QMAIL_QMTP_POST
G spp: NOMFDNSBOUNCE NOMFDNSCHECK
GIJNQST qmailqueue: QMAILQUEUE
GIL tarpit: TARPITCOUNT TARPITDELAY
GIST tls: SMTPS
I acl: ACCESSLIST CUGMAIL OPENRELAY REQPTR ENFORCE_FQDN_HELO TCPPARANOID PARANOID DOMAIN_MASQUERADE HOSTACCESS
I auth: ALLOW_INACTIVE ENABLE_CRAM SALTED_PASSWORD NATIVE_CHECKPASSWORD DOVECOT_VERSION STRIP_DOMAIN AUTHMODULES
I auth: EXTRA PWSTRUCT ANTISPOOFING AUTH_ALL AUTH_SMTP CHECKSENDER MASQUERADE DISABLE_AUTH_LOGIN
I auth: DISABLE_AUTH_PLAIN DISABLE_AUTH_OAUTH2 DISABLE_OAUTH2 DISABLE_CRAM_* DISABLE_DIGEST_MD5 DISABLE_SCRAM_*
I auth: DSABLE_CRAM_SHA384 LDAP_* ODMR OLD_CLIENT PENALTY REMOTEINFO SECURE_AUTH
I badmail: BADHELO BADHELOCHECK BADHOST BADHOSTCHECK BADIP BADIPCHECK BADMAILFROM BADMAILPATTERNS
I badmail: BADRCPTPATTERNS BADRCPTTO BLACKHOLEDRCPT BLACKHOLEDSENDER MAXRECIPIENTS NODNSCHECK
I batv: BATVKEY BATVKEYSTALE BATVNOSIGNLOCALS BATVNOSIGNREMOTE
I bind: DOMAINBINDINGS OUTGOINGIP HELOHOSTBYIP
I bounce: BOUNCEMAIL BOUNCEPROCESSOR BOUNCEQUEUE ROUTE_NULL_USER
I core: ASSIGNDIR DISABLE_CNAME_LOOKUP TRY_NEXT_MX_HELO_FAIL MIN_PENALTY MAX_TOLERANCE DISABLE_EXTRA_GREET
I core: DISABLE_HELP DISABLE_VRFY DISABLE_RUN DISPOSITION_HEADER SERVICE_RESPONDER MAKE_SEEKABLE HIDE_HOST
I core: HOSTNAME LOCALDOMAINS LOGFILTER LOGFD LOGLOCK MESSID MORESMTPROUTESCDB QMTPROUTE QMTPROUTESFILE
I core: QMTPROUTEFILE ROUTES SMTPROUTE SMTPROUTESFILE SMTPROUTEFILE SMTPHOST NOTLS NOTLSHOSTS ONFAILURE_REMOTE
I core: ONSUCCESS_REMOTE ONTEMPORARY_REMOTE SMTPCODE SMTPSTATUS SMTPTEXT QMTPCODE QMTPTEXT QQEH SANITIZE_ENV
I core: SKIP_LOCAL_ENVIRONMENT SETUSER_PRIVILEGES USE_SETGROUPS USE_QPWGR
I dane: DANE_VERIFICATION DANETIMEOUT TLSADOMAINS DANEPROG
I dnsbl: SKIPDNSBL
I eai: SMTPUTF8
I envrules: AUTHRULES FROMRULES RCPTRULES BOUNCERULES
I greylist: GREYIP
I popauth: CHECKRELAY RELAY_CLEAR_MINUTES OPEN_SMTP TCP_FILE NORELAY
I qfilter: BADEXT BADEXTPATTERNS BODYCHECK ENVHEADERS LOGHEADERS LOGHEADERFD REMOVEHEADERS ORIGINIPFIELD
I qfilter: EXTRAQUEUE QUARANTINE REJECTVIRUS VIRUSFORWARD FASTQUEUE QHPSI QHPSIMAXSIZE QHPSIMINSIZE QHPSIRC
I qfilter: QHPSIRN SCANCMD SCANDIR SCANNOW VIRUSCHECK
I qmailqueue: DEATH NULLQUEUE
I qmtp: DISABLE_MXPS PORT_QMQP
I queue: BIGTODO CONFSPLIT CHUNK_WAIT TODO_CHUNK_SIZE TODO_INTERVAL TODO_PROCESSOR DOMAINQUEUE DYNAMIC_QUEUE
I queue: DYNAMIC_QUEUE_TIME ERROR_INTERVAL QUEUE_LOAD QUEUE_MAX MIN_FREE QIDENT QUEUE_BASE QUEUE_COUNT
I queue: QUEUE_START QUEUEDIR QUEUEPROG USE_FDATASYNC USE_FSYNC USE_SYNCDIR NOFSYNC
I quota: ADDUSERCMD ALLOWCHARS AVG_USER_QUOTA BASE_PATH CACHE_COUNT DOMAIN_LIMITS FAST_QUOTA HARD_QUOTA
I quota: NSSD_SOCKET PASSWD_CACHE USE_BTREE MAX_BTREE_COUNT UPFIFO ELIMINATE_DUPS ELIMINATE_DUPS_ARGS
I quota: ELIMINATE_DUPS_INT HOLDOVERQUOTA INCLUDE_TRASH MAILCOUNT_LIMIT MAILSIZE_LIMIT MAILDIRSIZE_MAX_AGE
I quota: MAILDIRSIZE_MAX_SIZE OVERQUOTA_CMD OVERQUOTA_MAILSIZE
I ratelimit: RATELIMIT_DIR RATELIMIT_INTERVAL
I rcptcheck: AUTHSELF CHECKRECIPIENT MAX_RCPT_ERRCOUNT GOODRCPTPATTERNS GOODRCPTTO
I service: BANNER BULK_* CNTRL_* MASTER_HOST MYSQL_* CLIENT_COMPRESS CLIENT_INTERACTIVE MCDFILE RELAY_TABLE
I service: MAX_FAIL_ATTEMPTS QUERY_CACHE VIRTUAL_PKG_LIB INFIFO INFIFODIR FIFODIR FIFOTMPDIR FIFO_MODE
I service: ENABLE_MYSQL_ESCAPE DATA_TIMEOUT ITIMEOUTCONN ITIMEOUTDATA LANG LOCALIP PORT UTF8 TIMEOUT MAXDAEMONS
I service: THREAD_COUNT DEBUG DEBUG_LOGIN VERBOSE SILENT DNSCACHEIP DNSREWRITEFILE LOCALDOMAIN INITCMD
I service: WAIT_INITCMD KILLWAIT KILLWAIT1 KILLWAIT2 MAIN_SV SCANINTERVAL SCANLOG SETPGID SETSID SV_PWD
I service: TERMINATE_SESSION SHUTDOWN SHUTDOWN_SIGNAL AUTOSCAN UNSHARE PPID PWD MAXPERIP MSGQSIZE SOFT_MEM
I service: MYSQL_LIB MYSQL_TIMEOUT UID GID
I spf: SPFEXP SPFGUESS SPFIPV6 SPFRULES USE_SPFIPV6
I spp: DISABLE_PLUGIN PLUGINDIR SMTP_PLUGIN SMTP_PLUGIN_SYMB START_PLUGIN START_PLUGIN_SYMB QUEUE_PLUGIN_SYMB
I spp: PLUGIN USE_DLMOPEN
I srs: SRS_ALWAYSREWRITE SRS_DOMAIN SRS_HASHLENGTH SRS_HASHMIN SRS_MAXAGE SRS_SECRETS SRS_SEPARATOR
I surbl: LEVEL2_TLD LEVEL3_TLD SURBLDOMAINWHITE SURBLRCPT
I taps: MAILARCHIVE
I tls: CLIENT_RENEGOTIATION CLIENTCA CLIENTCERT CLIENTCRL SERVERCA SERVERCERT SERVERCRL SSLERATOR TLS_CERTFILE
I tls: TLS_CIPHER_LIST TLS_CIPHER_SUITE TLS_PROVIDER XOAUTH2_SCOPE STARTTLS
IJ tls: FORCE_TLS
IJL tarpit: GREETDELAY
IJQS size: DATABYTES DATABYTES_NOTIFY
IJS spf: SPFRESULT
IJST spf: SPFBEHAVIOR
INQ ipv6: PROTO TCP6LOCALHOST TCP6LOCALIP TCP6LOCALPORT TCP6REMOTEHOST TCP6REMOTEIP TCP6REMOTEPORT
INS qfilter: QMAILGETPW QMAILLOCAL QMAILREMOTE
IS auth: AUTHENTICATED AUTHINFO MIGRATEFLAG MIGRATEUSER MIN_LOGIN_INTERVAL PASSWORD_COMMAND POSTAUTH
IS auth: SELECTOR_DATA
IS badmail: QREGEX USE_FNMATCH
IS core: ALLOW_BARELF CONTROLDIR SYSCONFDIR DEFAULT_DOMAIN TMPDIR
IS dkim: BOUNCEDOMAIN DKIMDOMAIN DKIMSIGN_HEADER USE_FROM USE_SENDER NODK NODKIM DKIMEXPIRE DKIMIDENTITY DKIMKEY
IS dkim: DKIMSIGN DKIMSIGNEXTRA DKIMSIGNOPTIONS DKIMSIGNOPTIONSEXTRA EXCLUDE_DKIMSIGN DKIMPRACTICE SIGN_PRACTICE
IS dkim: DKIMQUEUE DKIMVERIFY HONOR_BODYLENGTHTAG NODKIMKEYS NOSIGNATUREDOMAINS SIGNATUREDOMAINS
IS dkim: RELAYCLIENT_NODKIMVERIFY UNSIGNED_FROM UNSIGNED_SUBJECT
IS dnsbl: DNSBLLIST RBLCOMMAND RBLEHLO RBLGREETING RBLSMTPD
IS qfilter: DOMAIN MATCH_RECIPIENT_DOMAIN MATCH_SENDER_DOMAIN ENVSIZE MSGSIZE NUMRCPTS QMAILRCPTS QMAILPPID
IS qfilter: QQF_QMAILQUEUE _EXT _QQEH _RECIPIENT _SENDER FILTERARGS QLOCAL QREMOTE HAMEXITCODE SPAMEXITCODE
IS qfilter: UNSUREEXITCODE SPAMFILTER SPAMIGNORE SPAMIGNOREPATTERNS SPAMREDIRECT REJECTSPAM
IS qfilter: RELAYCLIENT_NOSPAMFILTER
IS qmailqueue: ERROR_FD QMAIL_QUEUE_CUSTOM_ERROR
IS srs: QMAILINJECT_FORCE_SRS QMAILINJECT_SKIP_SRS
IS surbl: CACHELIFETIME
IS tls: CERTDIR CERTFILE KEYFILE CERTCHAINFILE DHFILE CAFILE SSL_UID SSL_GID SSL_CHROOT
J auth: ALLOW_CRAM ALLOW_INSECURE_AUTH AUTH_CDB AUTH_SET_* AUTH_UNSET_* PASSWORD_EXPIRES
J badmail: MAXRCPT MFCHECK RELAYREJ
J core: QMAILSMTPD_HELP_VERSION QMAILSMTPD_LOG_MAIL QMAILSMTPD_LOG_RCPT SPF_LOG SMTPGREETING
J tls: DENY_TLS SSL TLS_SERVER_CERT
JNS rcptcheck: RCPTCHECK USE_FD4
JS auth: SMTP_AUTH_USER SMTPAUTHMETHOD SMTPAUTHUSER
JS badmail: LOGREGEX
JS rcptcheck: HELO VALIDRCPTTO_CDB VALIDRCPTTO_LIMIT VALIDRCPTTO_LOG
JS tarpit: DROP_PRE_GREET
JST tls: TLSCIPHERS
JT badmail: NOBADHELO
L core: AUTHORIZED AUTHPREPEND AUTHREQUIRED BLOCKRELAYPROBE LDAPSOFTOK LOGLEVEL NOLOCAL NOPBS NOCOMPRESS
L core: REJECTEXEC RETURNMXCHECK SANITYCHECK SENDERCHECK SMTP550DISCONNECT SSLCERT RBL RBLONLYHEADER
L core: MAXRCPTCOUNT NOBOUNCE DROPRUSHGREET BADRCPTDELAY POP3_LOGLEVEL
L service: 421GREETING 550GREETING
LNS auth: SMTPAUTH
P spp: NOSPP
PS spp: SMTPHELOHOST SMTPMAILFROM SMTPRCPTCOUNT SMTPRCPTCOUNTALL SMTPRCPTHOSTSOK SMTPRCPTTO SPPCONFFILE
S auth: FORCEAUTHMAILFROM
S badmail: BRTLIMIT DISABLE_BADMAILFROM DISABLE_MAXRCPT REJECTNULLSENDERS
S core: IPMETEST_HERE QMAILAUTHENTICATED
S dnsbl: DNSBLFAILCLOSED DNSBLSKIP RBLRESULT
S greylist: JGREYLIST_DIR JGREYLIST_LOG_SMTP
S rcptcheck: MOREVALIDRCPTTO_CDB VALIDRCPTTO RCPTCHECKRELAYCLIENT RCPTFOUND RCPTHOSTS
S spp: ENABLE_SPP HELO_DNS_CHECK NOHELODNSCHECK
S surbl: SURBL SURBLQUEUE SURBL_DEBUG_FN
S tarpit: SMTPD_GREETDELAY
S tls: DISABLETLS FORCETLS
ST qfilter: SIMSCAN_DEBUG SIMSCAN_DEBUG_FILES
ST rcptcheck: CHKUSER_DISABLE_VARIABLE CHKUSER_SENDER_NOCHECK_VARIABLE CHKUSER_DOUBLEBOUNCE CHKUSER_IDENTIFY
ST rcptcheck: CHKUSER_MUSTAUTH CHKUSER_MBXQUOTA CHKUSER_RCPTLIMIT CHKUSER_WRONGRCPTLIMIT
ST rcptcheck: CHKUSER_RCPT_FORMAT_NOCHECK CHKUSER_RCPT_MX_NOCHECK CHKUSER_SENDER_FORMAT_NOCHECK
ST rcptcheck: CHKUSER_SENDER_MX_NOCHECK CHKUSER_START
T badmail: NOP0FCHECK
T qfilter: BADLOADERTYPE BADMIMETYPE REPLY554
V quota: MAILDIRQUOTA SHELL VPOPUSER VPOPMAIL_DOMAIN
"""

CORE_VARIABLES = [
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TERM",
    "PWD",
    "TMPDIR",
    "UMASK",
    "IFS",
    "SHLVL",
    "OLDPWD",
]
# Read by the run scripts themselves, by daemontools and the like; no program of qmail sees them.
SCRIPT_VARIABLES = [
    "MAXSMTPD",
    "QMAILDUID",
    "QMAILDGID",
    "NOFILESGID",
    "QMAILDIR",
    "QMAILHOME",
    "SOFTLIMIT",
    "LOCAL",
    "TCPRULES_DIR",
    "SSL_DIR",
    "SSL_CIPHER",
    "SSL_VERIFY",
    "VPOPMAIL_UID",
    "VPOPMAIL_GID",
    "MAXCONNS",
    "QMAIL_HOME",
    "CIPHERS",
    "VERIFYDEPTH",
    "TCPREMOTEINFO",
]


class Known(NamedTuple):
    """Who reads a name: letters of forks, and the plugin (or core, service) that has it in pluq; "" if nobody does."""

    forks: str
    owner: str = ""


def _table(text: str) -> dict[str, Known]:
    found: dict[str, Known] = {}
    for line in text.strip().splitlines():
        head, _, names = line.partition(": ")
        forks, _, owner = head.partition(" ")
        for name in names.split():
            before = found.get(name, Known(""))
            found[name] = Known(before.forks + forks, before.owner or owner)
    return found


CONTROL_FILES = _table(_CONTROL)
VARIABLES = _table(_VARIABLES)


def _find(table: dict[str, Known], name: str) -> Known | None:
    if name in table:
        return table[name]
    for pattern, known in table.items():
        if pattern.endswith("*") and len(pattern) > 1 and name.startswith(pattern[:-1]):
            return known
    return None


def control_file(name: str) -> Known | None:
    """Return who reads a control file; None if nobody known does."""
    return _find(CONTROL_FILES, name)


def variable(name: str) -> Known | None:
    """Return who reads a variable; None if nobody known does."""
    return _find(VARIABLES, name)
