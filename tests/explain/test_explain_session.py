"""`pluq explain --session` replays a dialogue with all plugins and names what made each reply; nothing is queued."""

import os
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pluq.commands import explain
from pluq.explain.dialogue import parse_script

CLIENT = (
    "EHLO client.example\nMAIL FROM:<a@far.example>\nRCPT TO:<joe@example.org>\nDATA\nSubject: hi\n\n..dots\n.\nQUIT\n"
)

WATCHER = '''
from pluq import Plugin, Reject, hook

class Watcher(Plugin):
    """Would take messages away from the queue, and speaks to one sender."""
    name = "watcher"

    @hook
    def smtp_helo(self, name):
        return Reject(550, "5.7.1", "I know you") if name == b"bad" else None

    @hook
    def message_decide(self, message):
        return Reject(554, "5.7.1", "spam") if b"spam" in message.as_bytes() else None

    @hook
    def queue_submit(self, message):
        raise SystemExit("this was to be queued")
'''


def files_below(folder):
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


def turns(answer):
    return {turn["client"]: turn for turn in answer["turns"]}


def watched(site):
    site.file("home/plugins/watcher.py", WATCHER)
    site.control("pluq.toml", '[profile.mx]\nplugins = ["size", "watcher"]\nsize.databytes = 1000\n')


def test_client_lines_are_answered_by_the_profile_and_nothing_is_queued(site, ask):
    watched(site)
    before = files_below(site.home.queue)
    found = ask("--session", str(site.file("client", CLIENT)), "--no-dns")
    assert found.code == 0
    said = turns(found.answer)
    assert said["RCPT TO:<joe@example.org>"]["by"] == "control/rcpthosts:2"
    assert said["EHLO client.example"]["by"] == "core, with words of size"
    assert said["."]["reply"][0].startswith("250 ok ")
    assert said["QUIT"]["reply"] == ["221 mail.example.org"]
    assert files_below(site.home.queue) == before


def test_every_hook_is_timed(site, ask):
    watched(site)
    found = ask("--session", str(site.file("client", CLIENT)), "--no-dns")
    hooks = turns(found.answer)["."]["hooks"]
    assert [hook["hook"] for hook in hooks] == ["message_decide", "queue_submit"]
    assert all(0 <= hook["ms"] < 60_000 for hook in hooks)


EDITOR = """
from pluq import Plugin, Recipient, hook

class Editor(Plugin):
    name = "editor"

    @hook
    def message_edit(self, message, transaction):
        message.set_field(b"Subject: [x] " + message.get("Subject"))
        message.replace_body(b"other\\n")
        transaction.recipients.append(Recipient(b"ann@example.org"))

    @hook
    def message_sign(self, message):
        pass
"""


def test_what_a_plugin_makes_of_a_message_is_shown(site, ask):
    site.file("home/plugins/editor.py", EDITOR)
    site.control("pluq.toml", '[profile.mx]\nplugins = ["editor"]\n')
    found = ask("--session", str(site.file("client", CLIENT)), "--no-dns")
    said = {hook["hook"]: hook["said"] for hook in turns(found.answer)["."]["hooks"]}
    assert said == {
        "message_edit": "changes - Subject: hi; + Subject: [x] hi; the body: 6 bytes to 6;"
        " the recipients: joe@example.org, ann@example.org",
        "message_sign": "no opinion",
    }


def test_replies_of_plugins_are_named_also_when_they_stand(site, ask):
    watched(site)
    client = CLIENT.replace("Subject: hi", "Subject: spam").replace(
        "EHLO client.example", "EHLO bad\nMAIL FROM:<>\nEHLO ok"
    )
    said = turns(ask("--session", str(site.file("client", client)), "--no-dns").answer)
    assert said["EHLO bad"]["by"] == "plugin watcher (smtp_helo), control/pluq.toml:2"
    assert said["MAIL FROM:<>"]["by"] == "plugin watcher (smtp_helo), control/pluq.toml:2, said before"
    assert said["."]["by"] == "plugin watcher (message_decide), control/pluq.toml:2"


def test_a_recorded_reply_that_differs_is_marked(site, ask):
    same = "E: RELAYCLIENT=\nS: 220 mail.example.org ESMTP\nC: MAIL FROM:<a@b>\nS: 250 ok\nC: RCPT TO:<c@far.example>\nS: 250 ok\n"
    assert ask("--session", str(site.file("same", same))).code == 0
    other = ask("--session", str(site.file("other", same.replace("E: RELAYCLIENT=\n", ""))))
    assert other.code == 1
    assert [turn["differs"] for turn in other.answer["turns"]] == [False, False, True]


def test_the_dialogues_of_the_tests_are_as_recorded(site, ask):
    """Those that need no setting of their own."""
    site.control("me", "mx.example.org\n")
    site.control("rcpthosts", "example.org\n")
    folder = Path(__file__).parents[1] / "dialogues" / "smtp"
    files = [path for path in sorted(folder.glob("*.txt")) if "\nK:" not in f"\n{path.read_text()}"]
    assert files
    for path in files:
        assert ask("--session", str(path)).code == 0, path


def test_tls_and_logins_go_on_without_a_peer(site, ask):
    site.file("home/plugins/asker.py", ASKER)
    site.control("pluq.toml", '[profile.mx]\nplugins = ["asker"]\n')
    found = ask("--session", str(site.file("client", "XTLS\nXASK\nan answer\nQUIT\n")))
    said = turns(found.answer)
    assert said["XTLS"]["reply"] == ["220 now", "250 encrypted"]
    assert said["XASK"]["reply"] == ["334 "]
    assert said["an answer"]["reply"] == ["250 an answer"]
    assert said["an answer"]["by"] == "plugin asker (XASK), control/pluq.toml:2"


ASKER = '''
from pluq import Plugin, hook

class Asker(Plugin):
    """Two verbs that need their client."""
    name = "asker"

    @hook
    def smtp_verbs(self):
        return {b"XTLS": self.tls, b"XASK": self.ask}

    async def tls(self, session, argument, connection):
        connection.reply(b"220 now\\r\\n")
        await connection.start_tls(None)
        return b"250 encrypted\\r\\n" if session.tls else b"454 no\\r\\n"

    async def ask(self, session, argument, connection):
        connection.reply(b"334 \\r\\n")
        return b"250 " + await connection.read_line() + b"\\r\\n"
'''


def test_the_text_form_reads_like_a_dialogue(site, monkeypatch, capsys):
    watched(site)
    monkeypatch.setattr(sys, "argv", ["pluq explain", "--no-dns", "--session", str(site.file("client", CLIENT))])
    assert explain.main() == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("# 192.0.2.1 may connect")
    assert "C: RCPT TO:<joe@example.org>" in rows
    assert "S: 250 ok  [control/rcpthosts:2]" in rows


def test_a_client_that_may_not_connect_says_nothing(site, ask):
    site.control("tcp.smtp", ":deny\n")
    found = ask("--session", str(site.file("client", CLIENT)))
    assert found.code == 111
    assert "may not connect" in found.error


def test_a_file_that_is_not_there_is_told(site, ask):
    found = ask("--session", "/nowhere/at/all")
    assert found.code == 111
    assert os.strerror(2) in found.error


@given(st.binary(max_size=300))
def test_any_file_is_a_script(data):
    script = parse_script(data)
    assert isinstance(script.lines, list)


def test_client_lines_stay_as_they_are():
    script = parse_script(b"EHLO x\n\n.\r\nC:not a letter line\n")
    assert [line for line, _ in script.lines] == [b"EHLO x", b"", b".", b"C:not a letter line"]


def test_secrets_of_logins_are_not_shown(site, monkeypatch, capsys):
    site.file("home/plugins/asker.py", ASKER.replace("XASK", "AUTH"))
    site.control("pluq.toml", '[profile.mx]\nplugins = ["asker"]\n')
    client = site.file("client", "AUTH LOGIN am9l\nc2VjcmV0\nNOOP\n")
    for words in ((), ("--json",)):
        monkeypatch.setattr(sys, "argv", ["pluq explain", "--session", str(client), *words])
        assert explain.main() == 0
        out = capsys.readouterr().out
        assert "AUTH LOGIN (not shown)" in out
        assert "am9l" not in out
        assert "NOOP" in out
