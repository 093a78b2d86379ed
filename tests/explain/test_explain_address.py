"""`pluq explain ADDRESS` says what production would do, and names the file and line or the plugin that decides."""

import os
import time

import pytest

from pluq.remote.tcpto import TcpTo
from pluq.testing.dns import FakeDns, Fault

STRANGERS = ("--no-dns",)
HERE = ("--no-dns", "--ip", "127.0.0.1")


@pytest.fixture(autouse=True)
def relaying(request):
    """This machine may relay, by line 2."""
    if "site" in request.fixturenames:
        request.getfixturevalue("site").control("tcp.smtp", '192.0.2.66:deny\n127.:allow,RELAYCLIENT=""\n')


def test_mail_for_a_mailbox_is_followed_to_its_line(site, ask):
    site.file("joe/.qmail", "# comment\n\n./Maildir/\n")
    found = ask("joe@example.org", *STRANGERS)
    assert found.code == 0
    assert found.by("RCPT TO:<joe@example.org>: 250") == "control/rcpthosts:2"
    assert found.by("example.org is delivered here") == "control/locals:2"
    assert found.by("the user is games") == "users/assign:1"
    assert found.by("Maildir ./Maildir/") == f"{site.joe}/.qmail:3"


def test_a_strangers_mail_for_others_is_refused_by_rcpthosts(site, ask):
    found = ask("jack@far.example", *STRANGERS)
    assert (found.code, found.answer["outcome"]) == (1, "refused")
    assert found.last.startswith("RCPT TO:<jack@far.example>: 553 sorry, that domain isn't in my list")
    assert found.last.endswith("[control/rcpthosts]")


def test_a_rule_lets_relay(site, ask):
    found = ask("jack@far.example", *HERE)
    assert found.by("127.0.0.1 may connect") == "control/tcp.smtp:2"
    assert found.by("RCPT TO") == "RELAYCLIENT, from control/tcp.smtp:2"
    assert found.by("far.example is neither local nor virtual") == "control/locals"


def test_a_rule_denies(site, ask):
    found = ask("joe@example.org", "--ip", "192.0.2.66")
    assert (found.code, found.steps) == (
        1,
        ["192.0.2.66 may not connect: the rule for 192.0.2.66 [control/tcp.smtp:1]"],
    )


def test_a_bad_sender_is_named_with_its_line(site, ask):
    site.control("badmailfrom", "one@bad.example\n@worse.example\n")
    found = ask("joe@example.org", "--from", "two@Worse.Example", *STRANGERS)
    assert found.code == 1
    assert found.last.endswith("[control/badmailfrom:2]")


def test_without_rcpthosts_everybody_is_taken_and_it_says_so(site, ask):
    os.remove(site.home.control("rcpthosts"))
    assert "mail for everybody is taken" in ask("jack@far.example", *STRANGERS).by("RCPT TO")


def test_virtualdomains_of_which_the_last_line_counts(site, ask):
    site.control("rcpthosts", ".virt.example\n")
    site.control("virtualdomains", ".virt.example:nobody\n# more\n.virt.example:joe-v\n")
    site.file("joe/.qmail-v-default", "./Maildir/\n")
    found = ask("x@a.virt.example", *STRANGERS)
    assert found.code == 0
    assert found.by(".virt.example is a virtual domain: joe-v-x@a.virt.example") == "control/virtualdomains:3"
    assert found.by(".qmail-v-default decides, for all that no other file is for")


def test_percenthack_and_a_missing_domain(site, ask):
    site.control("percenthack", "example.org\n")
    found = ask("jack%far.example@example.org", *STRANGERS)
    assert found.by("becomes jack@far.example") == "control/percenthack:1"
    assert ask("joe", *STRANGERS).by("joe has no domain: mail.example.org is added") == "control/me:1"


def test_an_extension_without_a_file_is_refused_and_the_files_are_named(site, ask):
    found = ask("joe-nix@example.org", *STRANGERS)
    assert found.code == 1
    assert found.last.endswith(f"[{site.joe} has none of .qmail-nix, .qmail-default]")


def test_forwards_are_followed_and_a_loop_is_found(site, ask):
    site.file("joe/.qmail", "&joe-two@example.org\n./Maildir/\n")
    site.file("joe/.qmail-two", "joe@example.org\n")
    found = ask("joe@example.org", *STRANGERS)
    assert found.code == 1
    assert found.by("forwards to joe-two@example.org") == f"{site.joe}/.qmail:1"
    assert found.last.startswith("a loop: ")
    assert found.answer["steps"][-1]["depth"] == 2


def test_many_forwards_end_somewhere(site, ask):
    for number in range(1, 20):
        site.file(f"joe/.qmail-{number}", f"joe-{number + 1}@example.org\n")
    found = ask("joe-1@example.org", *STRANGERS)
    assert found.last.startswith("joe-12@example.org: not followed any further")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda site: os.chmod(site.joe / ".qmail", 0o666), "Uh-oh: .qmail file is writable"),
        (lambda site: os.chmod(site.joe, 0o777), "Uh-oh: home directory is writable"),
        (lambda site: os.chmod(site.joe, 0o1755), "Home directory is sticky"),
        (lambda site: site.file("joe/.qmail", "\n./Maildir/\n"), "Uh-oh: first line of .qmail file is blank"),
        (lambda site: os.chmod(site.file("joe/.qmail", "|true\n"), 0o744), "Uh-oh: .qmail has prog delivery"),
        (lambda site: site.file("joe/.qmail", "./None/\n"), "Maildir ./None/: Unable to chdir to maildir"),
        (lambda site: site.file("joe/.qmail", "./none/mbox\n"), "mbox ./none/mbox: it is not there and cannot be made"),
    ],
)
def test_what_would_defer_is_told(site, ask, spoil, reason):
    spoil(site)
    found = ask("joe@example.org", *STRANGERS)
    assert (found.code, found.answer["outcome"]) == (75, "deferred")
    assert any(step.startswith(reason) for step in found.steps), found.steps


def test_what_the_user_may_not_write_is_told(split_site, ask):
    os.chown(split_site.joe / "Maildir" / "new", 0, 0)
    found = ask("joe@example.org", *STRANGERS)
    assert found.code == 75
    assert "Maildir ./Maildir/: new/ cannot be written by this user" in found.last


def test_a_home_behind_a_closed_folder_is_told(split_site, ask):
    split_site.folder.joinpath("closed").mkdir(mode=0o700)
    split_site.joe.rename(split_site.folder / "closed" / "joe")
    user = f"games:5:60:{split_site.folder}/closed/joe"
    split_site.file("home/users/assign", f"=joe:{user}:::\n.\n")
    split_site.newu()
    found = ask("joe@example.org", *STRANGERS)
    assert found.code == 75
    assert "Unable to switch to" in found.last


def test_a_users_cdb_that_is_older_than_its_source_is_told(site, ask):
    text = (site.folder / "home/users/assign").read_text()
    site.file("home/users/assign", text.replace("=joe:games", "=joe:backup"))
    found = ask("joe@example.org", *STRANGERS)
    assert any("run qmail-newu" in step for step in found.steps)
    assert (found.code, found.answer["outcome"]) == (0, "warning")


def test_a_route_is_named_with_its_line(site, ask):
    site.control("smtproutes", ":first.example\n.far.example:relay.example:2525\n")
    found = ask("jack@www.far.example", *HERE)
    assert found.by("to relay.example, port 2525, by smtp: the route for .far.example") == "control/smtproutes:2"
    assert ask("jack@else.example", *HERE).by("to first.example, port 25") == "control/smtproutes:1"


def test_mx_hosts_are_listed_in_their_order(site, ask, monkeypatch):
    zone = {
        "far.example": [("MX", (20, "b.far.example")), ("MX", (10, "a.far.example"))],
        "a.far.example": [("A", "203.0.113.10")],
        "b.far.example": [("A", "203.0.113.20")],
    }
    with FakeDns(zone) as server:
        monkeypatch.setenv("PLUQ_DNS_SERVER", server.text)
        found = ask("jack@far.example", "--ip", "127.0.0.1")
        assert found.code == 0
        assert [step for step in found.steps if "preference" in step] == [
            "a.far.example [203.0.113.10], preference 10 [DNS]",
            "b.far.example [203.0.113.20], preference 20 [DNS]",
        ]
        nobody = ask("jack@no.example", "--ip", "127.0.0.1")
        assert nobody.code == 1
        assert "couldn't find any host named no.example" in nobody.last


def test_an_mx_that_is_ourselves_is_refused_as_a_delivery_would(site, ask, monkeypatch):
    with FakeDns({"far.example": [("A", "127.0.0.1")]}) as server:
        monkeypatch.setenv("PLUQ_DNS_SERVER", server.text)
        found = ask("jack@far.example", "--ip", "127.0.0.1")
    assert found.code == 1
    assert "isn't in my control/locals file" in found.last


def test_the_tls_policy_and_the_dkim_key_of_a_host_are_told(site, ask):
    pytest.importorskip("cryptography")
    from pluq_dkim.commands import new_key

    site.control("pluq.toml", '[remote]\nplugins = ["tls", "dkim"]\n')
    site.control("domainkeys/example.org/default", new_key("ed25519", 0).decode())
    site.control("smtproutes", ":relay.example\n")
    site.control("tlshosts/relay.example.pem", "")
    found = ask("jack@far.example", "--from", "joe@example.org", *HERE)
    assert found.by("signed for example.org with the key default") == "plugin dkim in [remote], control/pluq.toml:2"
    assert (
        found.by("relay.example: TLS or nothing, with a certificate") == "plugin tls in [remote], control/pluq.toml:2"
    )


def test_a_login_relays_without_its_secret(site, ask):
    pytest.importorskip("scramp")
    from pluq_auth.users import PasswordFile  # noqa: F401  # what the plugin needs is there

    site.control("users.auth", "")
    site.control(
        "pluq.toml",
        '[profile.mx]\nplugins = ["size"]\n[profile.submission]\nplugins = ["auth"]\nauth.required = true\n'
        'auth.passwords = "control/users.auth"\nauth.without_tls = true\n',
    )
    without = ask("jack@far.example", "--profile", "submission", *STRANGERS)
    assert (without.code, without.last.endswith("[plugin auth (smtp_command), control/pluq.toml:5]")) == (1, True)
    found = ask("jack@far.example", "--user", "joe", "--from", "joe@example.org", *STRANGERS)
    assert found.answer["profile"] == "submission"
    assert found.by("RCPT TO") == "RELAYCLIENT, from plugin auth (smtp_login_as), control/pluq.toml:5"


PLUGIN = '''
from pluq import Plugin, Reject, hook

class Speaker(Plugin):
    """Refuse with a word, fail with another."""
    name = "speaker"

    @hook
    def smtp_rcpt(self, recipient):
        if recipient.address.startswith(b"fail"):
            raise KeyError("oops")
        return Reject(550, "5.7.1", "not him") if recipient.address.startswith(b"no") else None
'''


def test_a_plugin_is_named_with_its_hook(site, ask):
    site.file("home/plugins/speaker.py", PLUGIN)
    site.control("pluq.toml", '[profile.mx]\nplugins = ["speaker"]\n')
    found = ask("no@example.org", *STRANGERS)
    assert (found.code, found.last) == (
        1,
        "RCPT TO:<no@example.org>: 550 not him (#5.7.1) [plugin speaker (smtp_rcpt), control/pluq.toml:2]",
    )
    failing = ask("fail@example.org", *STRANGERS)
    assert failing.code == 75
    assert "plugin speaker (smtp_rcpt), control/pluq.toml:2, which failed: KeyError" in failing.by(
        "RCPT TO:<fail@example.org>: 451"
    )
    assert "no opinion [speaker (smtp_rcpt)]" in ask("joe@example.org", *STRANGERS).steps


def test_a_site_without_an_smtp_profile_is_asked_as_by_its_own_programs(site, ask):
    site.control("pluq.toml", '[profile.q]\nprotocol = "qmtp"\n')
    found = ask("joe@example.org", *STRANGERS)
    assert (found.code, found.answer["profile"], found.answer["ip"]) == (0, None, None)


def test_a_null_client_hands_everything_on(site, ask):
    queue = site.folder / "home/bin/qmail-queue"
    queue.parent.mkdir(exist_ok=True)
    queue.symlink_to("qmail-qmqpc")
    site.control("qmqpservers", "192.0.2.5\n")
    found = ask("joe@example.org")
    assert found.steps == [
        "this host has no queue: all mail goes to 192.0.2.5 by QMQP, which decides [control/qmqpservers:1]"
    ]


@pytest.mark.parametrize("words", [(), ("a@b", "--session", "x"), ("a@b", "--ip", "nowhere"), ("a@b", "--frobnicate")])
def test_wrong_usage_exits_with_100(site, ask, words):
    assert ask(*words).code == 100


def test_a_broken_configuration_is_told_with_its_line(site, ask):
    site.control("pluq.toml", "[profile.mx]\nplugins = [\n")
    found = ask("joe@example.org")
    assert found.code == 111
    assert "control/pluq.toml:" in found.error


def test_compiled_rules_count_and_older_ones_are_told(site, ask):
    from pluq.store.cdb import write_cdb
    from pluq.store.tcprules import parse_rules

    text = b'127.:allow,RELAYCLIENT=""\n'
    site.control("tcp.smtp", text.decode())
    write_cdb(site.home.control("tcp.smtp.cdb"), parse_rules(text))
    assert ask("joe@example.org", *HERE).by("127.0.0.1 may connect") == "control/tcp.smtp:1, in control/tcp.smtp.cdb"
    site.control("tcp.smtp", "127.:deny\n")
    found = ask("joe@example.org", *HERE)
    assert (found.code, found.answer["outcome"]) == (0, "warning")
    assert "make it anew" in found.steps[0]


def test_morercpthosts_is_named_with_its_key(site, ask):
    from pluq.store.cdb import write_cdb

    write_cdb(site.home.control("morercpthosts.cdb"), [(b".more.example", b"")])
    assert ask("x@a.more.example", *STRANGERS).by("RCPT TO") == "control/morercpthosts.cdb (.more.example)"


def test_a_forward_gets_the_sender_of_its_owner_and_of_srs(site, ask):
    pytest.importorskip("srslib")
    site.file("joe/.qmail-list", "jack@far.example\n")
    site.file("joe/.qmail-list-owner", "./Maildir/\n")
    site.control("pluq.toml", '[local]\nplugins = ["srs"]\n')
    site.control("srs_domain", "srs.example.org\n")
    site.control("srs_secrets", "secret\n")
    site.file("joe/.qmail-plain", "jack@far.example\n")
    listed = ask("joe-list@example.org", "--from", "ann@else.example", "--profile", "stock", *STRANGERS)
    assert listed.by("forwarded with the sender joe-list-owner@example.org") == f"{site.joe}/.qmail-list-owner"
    plain = ask("joe-plain@example.org", "--from", "ann@else.example", "--profile", "stock", *STRANGERS)
    assert plain.by("forwarded with the sender SRS0=") == "a plugin of [local]"


def test_mail_without_a_file_goes_where_the_default_says(site, ask):
    (site.joe / ".qmail").unlink()
    assert ask("joe@example.org", *STRANGERS).by("Maildir ./Maildir/") == "control/defaultdelivery"


def test_a_copy_by_a_plugin_of_the_queue_is_followed(site, ask):
    pytest.importorskip("re2")
    site.control("taps", "A:.*@example.org:joe-copy@example.org\n")
    site.control("pluq.toml", '[queue]\nplugins = ["taps"]\n')
    site.file("joe/.qmail-copy", "./Maildir/\n")
    found = ask("joe@example.org", "--profile", "stock", *STRANGERS)
    assert found.by("queued also to joe-copy@example.org") == "a plugin of [queue]"
    assert found.by(".qmail-copy decides") == f"{site.joe}/.qmail-copy"


MOODS = '''
from pluq import Discard, Disconnect, Later, Phase, Plugin, Reject, hook

class Moods(Plugin):
    """What the address of the client asks for."""
    name = "moods"

    @hook
    def smtp_connect(self, session):
        return {
            "192.0.2.1": Reject(554, "5.7.1", "go away"),
            "192.0.2.2": Disconnect(),
            "192.0.2.3": Later(Phase.RCPT, Reject(550, "5.7.1", "not now")),
        }.get(session.remote_ip)

    @hook
    def smtp_mail(self, session):
        return Discard() if session.remote_ip == "192.0.2.4" else None
'''


@pytest.mark.parametrize(
    ("ip", "last"),
    [
        ("192.0.2.1", "banner: 554 go away (#5.7.1) [plugin moods (smtp_connect), control/pluq.toml:2]"),
        ("192.0.2.2", "banner: no reply, and the connection is closed []"),
        (
            "192.0.2.3",
            "RCPT TO:<joe@example.org>: 550 not now (#5.7.1) [plugin moods (smtp_connect), control/pluq.toml:2, said before]",
        ),
        ("192.0.2.4", "the message will be taken and thrown away, for a plugin said so []"),
    ],
)
def test_refusals_at_the_banner_and_silent_ones_end_the_explanation(site, ask, ip, last):
    site.file("home/plugins/moods.py", MOODS)
    site.control("pluq.toml", '[profile.mx]\nplugins = ["moods"]\n')
    found = ask("joe@example.org", "--ip", ip, "--no-dns")
    assert (found.code, found.last) == (1, last)


def test_rules_of_a_tcpserver_may_lie_elsewhere(site, ask):
    path = site.file("etc/tcp.smtp", '192.0.2.:allow,RELAYCLIENT="@relayed"\n')
    site.control("virtualdomains", "relayed:joe\n")
    site.file("joe/.qmail-default", "./Maildir/\n")
    found = ask("jack@far.example", "--rules", f"{path}.cdb", "--no-dns")
    assert found.by("192.0.2.1 may connect") == f"{path}:1"
    assert found.by("relayed is a virtual domain: joe-jack@far.example@relayed") == "control/virtualdomains:1"
    assert found.code == 0


def test_trouble_with_dns_puts_mail_off(site, ask, monkeypatch):
    with FakeDns({"far.example": Fault.SERVFAIL}) as server:
        monkeypatch.setenv("PLUQ_DNS_SERVER", server.text)
        found = ask("jack@far.example", "--ip", "127.0.0.1")
    assert found.code == 75
    assert "couldn't find any host by that name" in found.last


def test_a_host_that_timed_out_lately_is_told(site, ask, monkeypatch):
    tcpto = TcpTo(f"{site.home.queue}/lock/tcpto")
    for ago in (400, 100):
        tcpto.note("203.0.113.10", timed_out=True, now=time.time() - ago)
    with FakeDns({"far.example": [("A", "203.0.113.10")]}) as server:
        monkeypatch.setenv("PLUQ_DNS_SERVER", server.text)
        found = ask("jack@far.example", "--ip", "127.0.0.1")
    assert found.by("far.example [203.0.113.10], preference 0: it timed out lately") == "qmail-tcpto"
    assert (found.code, found.last) == (75, "no address can be tried now []")


def test_a_queue_program_of_a_rule_is_named(site, ask):
    site.control("tcp.smtp", ':allow,QMAILQUEUE="bin/scan"\n')
    found = ask("joe@example.org", *STRANGERS)
    assert found.by("the message goes through the program bin/scan first") == "QMAILQUEUE"
    assert found.code == 0


def test_a_folder_that_is_no_home_is_trouble(site, ask):
    found = ask("joe@example.org", "--home", str(site.folder / "nowhere"))
    assert (found.code, found.answer) == (111, {})
    assert "no qmail home here" in found.error
