"""Every listing of docs/writing-plugins.md works as it stands there."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from pluq.config import Home
from pluq.config.site import read_site
from pluq.dns import Resolver
from pluq.plan.compile import compile_plan
from pluq.plan.load import load_class
from pluq.testing.conformance import PLAIN, REPLY_LINE, converse
from pluq.testing.dns import FakeDns
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk

PAGE = Path(__file__).parents[2] / "docs" / "writing-plugins.md"
LISTINGS = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
PLUGINS = {Path(name).stem: text for name, text in LISTINGS if name.startswith("plugins/")}
TESTS = [text for name, text in LISTINGS if name == "test"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    (tmp_path / "plugins").mkdir()
    for name, text in PLUGINS.items():
        (tmp_path / "plugins" / f"{name}.py").write_text(text)
    return Home(str(tmp_path))


def test_there_are_listings_to_run() -> None:
    assert len(PLUGINS) == 4
    assert len(TESTS) == 3


@pytest.mark.parametrize("name", PLUGINS)
async def test_each_plugin_works_from_the_sites_folder(name: str, home: Home) -> None:
    Path(home.control("pluq.toml")).write_text(f'[profile.mx]\nplugins = ["{name}"]\n')
    plan = compile_plan(home, read_site(home), "mx", log=lambda line: None)
    with FakeDns({"elsewhere.example": [("A", "192.0.2.1")]}) as server:
        resolver = Resolver([server.address])
        for plugin in plan.plugins:
            object.__setattr__(plugin.context, "resolver", lambda: resolver)
        for line in await converse(PLAIN, plan):
            assert REPLY_LINE.fullmatch(line), line
        await resolver.close()


@pytest.mark.parametrize("text", TESTS)
def test_each_test_of_the_page_passes(text: str, home: Home) -> None:
    names: dict[str, Any] = {}
    exec(text, names)
    classes = {cls.__name__: cls for cls in (load_class(name, home) for name in PLUGINS)}
    tests = {name: one for name, one in names.items() if name.startswith("test_")}
    assert tests
    for test in tests.values():
        wanted = inspect.signature(test).parameters
        result = test(**{name: classes[name] for name in wanted})
        if inspect.iscoroutine(result):
            asyncio.run(result)


async def test_the_domain_lookup_refuses_a_domain_without_records(home: Home) -> None:
    with FakeDns({"good.example": [("MX", (1, "mx.good.example"))]}) as server:
        resolver = Resolver([server.address])
        plugin = make_plugin(load_class("realdomain", home), resolver=lambda: resolver)
        talk = Talk(plan=plan_of(plugin))
        assert await talk.ask("MAIL FROM:<a@nowhere.example>") == "550 your domain has no mail server (#5.1.8)"
        assert await talk.ask("MAIL FROM:<a@good.example>") == "250 ok"
        await resolver.close()
