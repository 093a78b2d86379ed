"""Loading plugin classes and compiling plans: what is refused, with which words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pluq import Defer, Plugin, Session, hook, setting
from pluq.config import Home
from pluq.config.site import read_site
from pluq.errors import ConfigError
from pluq.plan import EMPTY, Plan
from pluq.plan.compile import compile_plan
from pluq.plan.load import check_class

SITE_PLUGIN = '''
from dataclasses import dataclass
from pluq import Defer, Plugin, hook, setting

@dataclass(frozen=True)
class Settings:
    limit: int = setting(50, unit="recipients", control="maxrcpt", env="MAXRCPT", help="Recipients in one message.")

class MaxRcpt(Plugin[Settings]):
    """Bounds the recipients."""
    name = "{name}"
    {extra}

    @hook
    def smtp_rcpt(self, session, transaction):
        if len(transaction.recipients) >= self.settings_for(session).limit:
            return Defer(452, "4.5.3", "too many recipients")
'''


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    (tmp_path / "plugins").mkdir()
    return Home(str(tmp_path))


def write_plugin(home: Home, name: str, extra: str = "", text: str = SITE_PLUGIN) -> None:
    Path(home.plugins, f"{name}.py").write_text(text.replace("{name}", name).replace("{extra}", extra))


def write_toml(home: Home, text: str) -> None:
    Path(home.control("pluq.toml")).write_text(text)


def compile_mx(home: Home, lines: list[str] | None = None) -> Plan:
    return compile_plan(home, read_site(home), "mx", log=(lines if lines is not None else []).append)


def test_a_profile_without_plugins_is_the_empty_plan(home: Home) -> None:
    write_toml(home, "[profile.mx]\nlisten = ['127.0.0.1:0']\n")
    assert compile_mx(home) is EMPTY


async def test_a_file_in_the_sites_plugins_folder_works(home: Home) -> None:
    write_plugin(home, "maxrcpt")
    write_toml(home, '[profile.mx]\nplugins = ["maxrcpt"]\nmaxrcpt.limit = 0\n')
    plan = compile_mx(home)
    assert plan.smtp_rcpt is not None and plan.smtp_mail is None

    class Transaction:
        recipients: tuple[Any, ...] = ()

    verdict = await plan.smtp_rcpt(session=Session(), transaction=Transaction(), recipient=None)
    assert verdict == Defer(452, "4.5.3", "too many recipients")


def test_the_environment_wins_over_the_profile_over_the_plugin_table_over_the_control_file(home: Home) -> None:
    write_plugin(home, "maxrcpt")
    Path(home.control("maxrcpt")).write_text("7\n")

    def limit(toml: str, **environment: str) -> tuple[int, str]:
        write_toml(home, toml)
        plugin = compile_mx(home).plugins[0]
        found: int = plugin.settings_for(Session(environment=environment)).limit
        return found, plugin.resolved.values["limit"].source

    bare = '[profile.mx]\nplugins = ["maxrcpt"]\n'
    assert limit(bare) == (7, "control/maxrcpt")
    assert limit("[plugin.maxrcpt]\nlimit = 8\n" + bare)[0] == 8
    assert limit("[plugin.maxrcpt]\nlimit = 8\n" + bare + "[profile.mx.maxrcpt]\nlimit = 9\n")[0] == 9
    assert limit(bare + "maxrcpt.limit = 9\n", MAXRCPT="3")[0] == 3


def test_an_environment_value_that_does_not_fit_is_logged_and_the_configured_one_stands(home: Home) -> None:
    write_plugin(home, "maxrcpt")
    write_toml(home, '[profile.mx]\nplugins = ["maxrcpt"]\n')
    lines: list[str] = []
    plugin = compile_mx(home, lines).plugins[0]
    assert plugin.settings_for(Session(environment={"MAXRCPT": "many"})).limit == 50
    assert lines == ["maxrcpt: unknown: $MAXRCPT: expected a number"]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('[profile.mx]\nplugins = ["maxrctp"]\n', ["pluq.toml:2", "maxrctp", "did you mean 'maxrcpt'"]),
        ('[profile.mx]\nplugins = ["maxrcpt"]\nmaxrcpt.limt = 3\n', ["pluq.toml:3", "limt", "did you mean 'limit'"]),
        ('[profile.mx]\nplugins = ["maxrcpt"]\nmaxrcpt.limit = "x"\n', ["pluq.toml:3", "limit", "whole number"]),
        ('[profile.mx]\nplugins = ["maxrcpt"]\n\n[profile.mx.maxrcpt]\nlimit = -1\n', ["pluq.toml:5", "not negative"]),
        ('[profile.mx]\nplugins = ["maxrcpt"]\nmaxrcpt.on_error = "skp"\n', ["pluq.toml:3", "did you mean 'skip'"]),
        ('[profile.mx]\nplugins = ["maxrcpt"]\nmaxrcpt.timeout = 0\n', ["pluq.toml:3", "timeout"]),
        ('[profile.mx]\nplugin = ["maxrcpt"]\n', ["pluq.toml:2", "did you mean 'plugins'"]),
        ('[profile.mx]\nplugins = ["maxrcpt", "maxrcpt"]\n', ["pluq.toml:2", "twice"]),
        ("[profil.mx]\n", ["pluq.toml:1", "did you mean 'profile'"]),
        ('[profile.mx]\nplugins = ["maxrcpt"\n', ["pluq.toml:"]),
        ('[profile.base]\n[profile.mx]\nextends = "bsae"\n', ["pluq.toml:3", "did you mean 'base'"]),
        ("[profile.mx]\nplugins = []\nmaxrcpt.limit = 3\n", ["pluq.toml:3", "not in plugins"]),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_the_nearest_right_word(
    home: Home, toml: str, words: list[str]
) -> None:
    write_plugin(home, "maxrcpt")
    write_toml(home, toml)
    with pytest.raises(ConfigError) as caught:
        compile_mx(home)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["many\n", "", "-1\n", " 7\n"])
def test_a_control_file_that_begins_with_no_number_leaves_the_default_as_in_qmail(home: Home, text: str) -> None:
    write_plugin(home, "maxrcpt")
    Path(home.control("maxrcpt")).write_text(text)
    write_toml(home, '[profile.mx]\nplugins = ["maxrcpt"]\n')
    assert compile_mx(home).plugins[0].settings_for(Session()).limit == 50


def test_a_list_that_contradicts_the_declared_order_is_refused_with_one_that_would_do(home: Home) -> None:
    write_plugin(home, "aa", 'after = ("bb",)')
    write_plugin(home, "bb")
    write_toml(home, '[profile.mx]\nplugins = ["aa", "bb"]\n')
    with pytest.raises(
        ConfigError, match=r"pluq.toml:2.*'bb' must stand before 'aa'; this order would do: \['bb', 'aa'\]"
    ):
        compile_mx(home)
    write_toml(home, '[profile.mx]\nplugins = ["bb", "aa"]\n')
    assert [plugin.name for plugin in compile_mx(home).plugins] == ["bb", "aa"]


def test_the_order_of_asking_is_the_order_of_the_list(home: Home) -> None:
    write_plugin(home, "aa")
    write_plugin(home, "bb")
    write_toml(home, '[profile.mx]\nplugins = ["bb", "aa"]\n')
    chain: Any = compile_mx(home).smtp_rcpt
    assert [step.plugin for step in chain.steps] == ["bb", "aa"]


def test_a_profile_inherits_and_overrides(home: Home) -> None:
    write_plugin(home, "maxrcpt")
    write_toml(
        home,
        '[profile.base]\nplugins = ["maxrcpt"]\nmaxrcpt.limit = 5\n[profile.mx]\nextends = "base"\nmaxrcpt.on_error = "skip"\n',
    )
    plan = compile_mx(home)
    chain: Any = plan.smtp_rcpt
    assert plan.plugins[0].settings.limit == 5
    assert chain.steps[0].skip_errors


def test_a_plugin_file_that_everybody_may_write_is_refused(home: Home) -> None:
    write_plugin(home, "maxrcpt")
    os.chmod(f"{home.plugins}/maxrcpt.py", 0o666)
    write_toml(home, '[profile.mx]\nplugins = ["maxrcpt"]\n')
    with pytest.raises(ConfigError, match="writable by everybody"):
        compile_mx(home)


def test_a_plugin_file_that_fails_names_its_line(home: Home) -> None:
    write_plugin(home, "bad", text="import os\n\nraise ValueError('no')\n")
    write_toml(home, '[profile.mx]\nplugins = ["bad"]\n')
    with pytest.raises(ConfigError, match=r"bad.py:3: bad: ValueError: no"):
        compile_mx(home)


def test_a_wrong_parameter_name_is_refused_with_plugin_hook_and_parameter() -> None:
    class Wrong(Plugin[Any]):
        name = "wrong"

        @hook
        def smtp_rcpt(self, session: Any, reciepient: Any) -> None: ...

    with pytest.raises(
        ConfigError, match=r"plugin 'wrong': smtp_rcpt has no parameter 'reciepient'; did you mean 'recipient'"
    ):
        check_class("wrong", Wrong)


def test_a_misspelt_hook_is_refused() -> None:
    class Wrong(Plugin[Any]):
        name = "wrong"

        @hook
        def smtp_rctp(self) -> None: ...

    with pytest.raises(ConfigError, match=r"no hook smtp_rctp; did you mean 'smtp_rcpt'"):
        check_class("wrong", Wrong)


def test_a_hook_without_its_mark_is_refused() -> None:
    class Wrong(Plugin[Any]):
        name = "wrong"

        def smtp_rcpt(self) -> None: ...

    with pytest.raises(ConfigError, match="not marked @hook"):
        check_class("wrong", Wrong)


def test_defaults_generators_and_star_arguments_are_refused() -> None:
    class Default(Plugin[Any]):
        name = "wrong"

        @hook
        def smtp_rcpt(self, session: Any = None) -> None: ...

    class Generator(Plugin[Any]):
        name = "wrong"

        @hook
        def smtp_rcpt(self) -> Any:
            yield

    class Star(Plugin[Any]):
        name = "wrong"

        @hook
        def smtp_rcpt(self, **given: Any) -> None: ...

    class NotNow(Plugin[Any]):
        name = "wrong"

        @hook
        async def smtp_capabilities(self, session: Any) -> None: ...

    for plugin, words in (
        (Default, "default"),
        (Generator, "generator"),
        (Star, "name the parameters"),
        (NotNow, "plain"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_class("wrong", plugin)


def test_two_owners_of_a_verb_are_refused(home: Home) -> None:
    text = 'from pluq import Plugin, hook\nclass One(Plugin):\n    name = "{name}"\n    @hook\n    def smtp_verbs(self):\n        return {b"XTRA": print}\n'
    write_plugin(home, "aa", text=text)
    write_plugin(home, "bb", text=text)
    write_toml(home, '[profile.mx]\nplugins = ["aa", "bb"]\n')
    with pytest.raises(ConfigError, match="'aa' and 'bb' both want the verb XTRA"):
        compile_mx(home)


def test_a_setting_of_an_unknown_type_is_the_authors_error() -> None:
    from pluq.config.settings import declarations

    @dataclass(frozen=True)
    class Settings:
        odd: object = setting(None, help="?")

    with pytest.raises(TypeError, match="a setting is bool"):
        declarations(Settings)


def test_a_plugin_without_a_hook_of_the_protocol_makes_no_sense(home: Home) -> None:
    write_plugin(home, "maxrcpt")
    write_toml(home, '[profile.pop]\nprotocol = "pop3"\nplugins = ["maxrcpt"]\n')
    with pytest.raises(ConfigError, match=r"pluq.toml:3: profile.pop.plugins: 'maxrcpt' does nothing in a profile"):
        compile_plan(home, read_site(home), "pop", role="pop3d", log=lambda line: None)
