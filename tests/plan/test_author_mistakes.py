"""What a plugin's author hears of mistakes: when the file is loaded, where that can be; else in the log, with the line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pluq import Reject, Session
from pluq.config import Home
from pluq.config.site import read_site
from pluq.errors import ConfigError
from pluq.plan import chain
from pluq.plan.compile import compile_plan
from pluq.plan.inspect import faults
from pluq.testing.plugins import load_plugin, make_plugin, plan_of
from pluq.testing.smtp_session import Talk

HEAD = """from dataclasses import dataclass
from pluq import *


"""
CLASS = '''class Oops(Plugin{settings}):
    """Wrong."""

    name = "oops"

'''
HOOK = "    @hook\n    def smtp_mail(self, session):\n        "


def write(home: Home, body: str, before: str = "", settings: str = "", toml: str = "") -> None:
    Path(home.plugins).mkdir(parents=True)
    Path(home.control_dir).mkdir()
    Path(home.plugins, "oops.py").write_text(HEAD + before + CLASS.replace("{settings}", settings) + body)
    Path(home.control("pluq.toml")).write_text(f'[profile.mx]\nplugins = ["oops"]\n{toml}\n')


LOADING: tuple[tuple[dict[str, str], str], ...] = (
    (
        {"body": "    @hook\n    def smtp_mail(session): ...\n"},
        "plugins/oops.py:10: {p}smtp_mail is a method: its first",
    ),
    ({"body": "    @hook\n    def smtp_mail(): ...\n"}, "plugins/oops.py:10: {p}smtp_mail is a method: its first"),
    ({"body": "    def own(self): ...\n"}, "plugins/oops.py:5: {p}has no method marked @hook, so it would do nothing"),
    (
        {"body": f"    def __init__(self, config): ...\n{HOOK}...\n"},
        "plugins/oops.py:5: oops: TypeError: Oops.__init__()",
    ),
    (
        {"body": f"    def __init__(self): self.settings\n{HOOK}...\n"},
        "settings and context are there from the hook start",
    ),
    (
        {"body": f"{HOOK}...\n", "settings": "[S]", "before": "class S:\n    x: int = 3\n\n"},
        "oops: TypeError: S: the class of a plugin's settings is a @dataclass(frozen=True)",
    ),
    (
        {"body": f"{HOOK}...\n", "settings": "[S]", "before": "@dataclass(frozen=True)\nclass S:\n    x: int = 3\n\n"},
        "plugins/oops.py:5: {p}S.x: declare it with setting(...)",
    ),
    (
        {"body": "", "before": "x: list[str] = setting([], help='X.')\n"},
        "plugins/oops.py:5: oops: TypeError: setting([]): a list of texts is a tuple[str, ...], its default ()",
    ),
    (
        {
            "body": f"{HOOK}...\n",
            "settings": "[S]",
            "before": "@dataclass(frozen=True)\nclass S:\n    x: int = setting(1, help='X.')\n"
            "    def __post_init__(self):\n        if self.x > 5: raise ValueError('x: 5 at most')\n\n",
            "toml": "oops.x = 6",
        },
        "control/pluq.toml:3: mx: plugin 'oops': x: 5 at most",
    ),
    (
        {
            "body": f"{HOOK}...\n",
            "before": "@dataclass(frozen=True)\nclass S:\n    x: int = setting(1, help='X.')\n\n",
        },
        "plugins/oops.py:9: {p}S is not used: class Oops(Plugin[S])",
    ),
    (
        {"body": f"{HOOK}...\n", "before": "class Base(Plugin): ...\n\n"},
        "plugins/oops.py: oops: has 2 plugin classes (Base, Oops) where one is expected",
    ),
)


@pytest.mark.parametrize(("files", "words"), LOADING)
def test_a_mistake_that_can_be_seen_is_an_error_when_the_file_is_loaded(
    tmp_path: Path, files: dict[str, str], words: str
) -> None:
    home = Home(str(tmp_path / "home"))
    write(home, **files)
    with pytest.raises(ConfigError) as caught:
        compile_plan(home, read_site(home), "mx", log=lambda line: None)
    assert words.replace("{p}", "plugin 'oops': ") in str(caught.value) or words.replace(
        "{p}", "plugin 'oops' "
    ) in str(caught.value)


def test_a_fault_of_syntax_is_told_with_its_line_once(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "home"))
    write(home, "    x = = 1\n")
    assert [fault.replace(home.path, "") for fault in faults(home)] == [
        "/plugins/oops.py:10: oops: SyntaxError: invalid syntax"
    ]


FAILING = (
    ("return '550 no'", "smtp_mail", "it returned '550 no', which is no verdict: None, or one of Accept, Reject"),
    ("return Reject", "smtp_mail", "which is no verdict"),
    ("return self.look()", "smtp_mail", "it returned Oops.look() without waiting for it: an await is missing"),
    ("return Reject('go away')", "smtp_mail", "the code is a number, not 'go away' (oops.py:12)"),
    ("return Reject(450)", "smtp_mail", "Reject: 450 is no code of a Reject; Defer has it (oops.py:12)"),
    ("return Defer(550)", "smtp_mail", "Defer: 550 is no code of a Defer; Reject has it (oops.py:12)"),
    ("return Reject(5000)", "smtp_mail", "Reject: 5000 is no code of a Reject (oops.py:12)"),
    ("return Reject(550, 571)", "smtp_mail", "the enhanced code is text"),
    ("return Reject(550, None, 7)", "smtp_mail", "the text is str or bytes, not 7"),
    ("return {}['x']", "smtp_mail", "KeyError: 'x' (oops.py:12)"),
    ("self.deeper()", "smtp_mail", "ZeroDivisionError: division by zero (oops.py:14)"),
    ("return b'XFOO'", "smtp_capabilities", "it returned b'XFOO', which is no list of bytes"),
    ("return ['XFOO']", "smtp_capabilities", "it returned ['XFOO'], which is no list of bytes"),
    ("return AuthResult('x', 'pass')", "message_verify", "which is no list of AuthResult"),
)
HELPERS = "\n    async def look(self): ...\n    def deeper(self): 1 / 0\n"


@pytest.mark.parametrize(("statement", "hook_name", "words"), FAILING)
async def test_a_mistake_that_shows_later_is_told_with_plugin_hook_and_line(
    tmp_path: Path, statement: str, hook_name: str, words: str
) -> None:
    path = tmp_path / "oops.py"
    hook_lines = HOOK.replace("smtp_mail", hook_name)
    path.write_text(HEAD + CLASS.replace("{settings}", "") + hook_lines + statement + HELPERS)
    lines: list[str] = []
    talk = Talk(plan=plan_of(make_plugin(load_plugin(path)), log=lines.append))
    said = ""
    for line in ("EHLO c.example", "MAIL FROM:<a@b>", "RCPT TO:<c@example.org>", "DATA", "Subject: hi\r\n\r\n."):
        said += await talk.ask(line)
    assert lines[0].startswith(f"plugin oops failed in {hook_name}: ")
    assert words in lines[0]
    assert "451 temporary local problem" in said


async def test_a_plain_function_that_waits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from pluq import Plugin, hook

    class Sleeper(Plugin):
        """Waits."""

        name = "sleeper"

        @hook
        def smtp_mail(self, session: Session) -> None:
            """Takes some time, as everything does."""

    monkeypatch.setattr(chain, "HELD_UP", 0.0)
    lines: list[str] = []
    plan = plan_of(make_plugin(Sleeper), log=lines.append)
    assert plan.smtp_mail is not None
    await plan.smtp_mail(session=Session(), transaction=None)
    assert "plugin sleeper held up all that its process does in smtp_mail, for 0." in lines[0]


def test_a_check_that_fails_says_why(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "home"))
    write(home, "    @hook\n    def check(self):\n        return {}['x']\n")
    assert "mx: plugin oops failed in check: KeyError: 'x'" in faults(home)


def test_verdicts_of_programs_and_of_local_deliveries_keep_their_codes() -> None:
    made: list[Any] = [Reject(code) for code in (100, 250, 554, 599)]
    assert [one.code for one in made] == [100, 250, 554, 599]


VERBS = (
    ("    def ping(self, session, argument, connection): ...", 'b"XPING"', "the handler of XPING must be async"),
    (
        "    async def ping(self, session, argument, connection): ...",
        '"XPING"',
        "'XPING': a verb is bytes in upper case",
    ),
    (
        "    async def ping(self, session, argument, connection): ...",
        'b"xping"',
        "b'xping': a verb is bytes in upper case",
    ),
    (
        "    async def ping(self): ...",
        'b"XPING"',
        "the handler of XPING takes session, argument, connection",
    ),
)


@pytest.mark.parametrize(("method", "verb", "words"), VERBS)
def test_a_verb_that_could_not_be_spoken_is_refused(tmp_path: Path, method: str, verb: str, words: str) -> None:
    home = Home(str(tmp_path / "home"))
    write(home, f"    @hook\n    def smtp_verbs(self):\n        return {{{verb}: self.ping}}\n\n{method}\n")
    with pytest.raises(ConfigError, match=r"pluq\.toml:2: .*plugin 'oops': smtp_verbs: ") as caught:
        compile_plan(home, read_site(home), "mx", log=lambda line: None)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "reply", "words"),
    [
        ("return b'250 pong'", "250 pong", ""),
        ("return '250 pong'", "451 temporary local problem", "it returned '250 pong', which is no verdict"),
        ("return {}['x']", "451 temporary local problem", "a plugin's verb XPING failed: KeyError: 'x' (oops.py:15)"),
    ],
)
async def test_a_verb_that_fails_is_told_with_its_line(tmp_path: Path, statement: str, reply: str, words: str) -> None:
    path = tmp_path / "oops.py"
    body = "    @hook\n    def smtp_verbs(self):\n        return {b'XPING': self.ping}\n\n"
    body += f"    async def ping(self, session, argument, connection):\n        {statement}\n"
    path.write_text(HEAD + CLASS.replace("{settings}", "") + body)
    talk = Talk(plan=plan_of(make_plugin(load_plugin(path))))
    assert (await talk.ask("XPING")).startswith(reply)
    assert words in "".join(talk.logged)
    assert await talk.ask("NOOP") == "250 ok"


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda plugin: plan_of(plugin), r"plan_of\(\) takes instances, as make_plugin\(\) returns them"),
        (lambda plugin: Talk(plan=make_plugin(plugin)), r"plan=plan_of\(make_plugin"),
        (lambda plugin: Talk().send("NOOP"), r"say\(\) sends a line of text"),
    ],
)
def test_a_wrong_call_of_the_test_kit_is_told_at_once(
    tmp_path: Path, mistake: Callable[[Any], object], words: str
) -> None:
    (tmp_path / "oops.py").write_text(HEAD + CLASS.replace("{settings}", "") + HOOK + "...\n")
    with pytest.raises(TypeError, match=words):
        mistake(load_plugin(tmp_path / "oops.py"))
