"""What the pages show works: links lead somewhere, configurations compile, commands and their options exist."""

from __future__ import annotations

import io
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from pluq.commands import pluq
from pluq.config import Home
from pluq.config.site import read_site
from pluq.plan.inspect import places, plans
from pluq.plan.load import installed

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for pattern in ("*.md", "docs/*.md", "plugins/*/README.md", "service/README.md")
    for path in sorted(ROOT.glob(pattern))
]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A line of a fenced or indented block, or a span of code.
CODE = re.compile(r"^```\w*\n(.*?)^```|^ {4}([^\n]*)$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ |# )?pluq (?P<rest>[a-z].*?)(?: +#.*| *[|&;>].*)?$", re.MULTILINE)
OPTION = re.compile(r"(?<=\s)--?[a-z][\w-]*")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """The anchors that headings make, as on code hosts and on the site."""
    headings = HEADING.findall(re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)} links to {path}"
        assert not anchor or anchor in anchors(target), f"{name(page)} links to #{anchor} in {name(target)}"


def configurations() -> Iterator[tuple[str, str]]:
    """Give each pluq.toml that a page shows: in a fence, or indented."""
    for page in PAGES:
        text = page.read_text()
        indented = re.findall(r"(?:^ {4}\S.*\n|^\n(?= {4}))+", text, re.MULTILINE)
        blocks = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        unindented = [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in indented if "[profile." in block]
        blocks += [re.sub(r"^(\$ |pluq ).*\n", "", block, flags=re.MULTILINE) for block in unindented]
        for number, block in enumerate(blocks):
            start = re.search(r"^\[", block, re.MULTILINE)
            if start and "[project" not in block:
                yield f"{name(page)}-{number}", block[start.start() :]


@pytest.mark.parametrize("text", [pytest.param(text, id=where) for where, text in configurations()])
def test_every_configuration_compiles(text: str, tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("mx.example.org\n")
    (tmp_path / "control" / "pluq.toml").write_text(text)
    known = installed()
    lists = [table.get("plugins", []) for table in sections(tomllib.loads(text))]
    missing = {plugin for plugins in lists for plugin in plugins} - set(known)
    if missing:
        pytest.skip(f"shows a plugin of the reader's own: {', '.join(missing)}")
    home = Home(str(tmp_path))
    site = read_site(home)
    found = dict(plans(home, site))
    assert list(found) == [place for _, place in places(site)]
    assert [str(plan) for plan in found.values() if isinstance(plan, Exception)] == []


def sections(table: dict[str, object]) -> Iterator[dict[str, list[str]]]:
    for value in table.values():
        if isinstance(value, dict):
            yield value
            yield from sections(value)


def help_of(words: list[str]) -> str | None:
    """What `pluq WORDS --help` prints, None when there is no such command."""
    printed = io.StringIO()
    before, sys.argv = sys.argv, ["pluq", *words, "--help"]
    try:
        with redirect_stdout(printed), redirect_stderr(printed), suppress(SystemExit):
            if pluq.main() == 100:
                return None
    finally:
        sys.argv = before
    return printed.getvalue()


def shown_commands() -> list[tuple[str, str]]:
    """Give (what follows the word pluq, the page) for each command in a block or a span of code."""
    found = set()
    for page in PAGES:
        for piece in CODE.findall(page.read_text()):
            found |= {(rest, name(page)) for rest in COMMAND.findall("\n".join(piece))}
    return sorted(found)


@pytest.mark.parametrize(("rest", "page"), shown_commands())
def test_every_command_and_option_exists(rest: str, page: str) -> None:
    words = rest.split()
    text = help_of(words[:1])
    assert text is not None, f"{page}: pluq {rest}"
    for word in words[1:2] if re.fullmatch(r"[a-z][a-z-]+", "".join(words[1:2])) else []:
        deeper = help_of([words[0], word])
        text += deeper or ""
    for option in OPTION.findall(f" {rest}"):
        assert re.search(rf"{option}\b", text), f"{page}: pluq {rest}: no option {option}"


def test_the_table_of_patches_names_every_plugin_and_settings_that_exist() -> None:
    page = (ROOT / "docs" / "from-qmail.md").read_text().partition("## From notqmail")[0]
    known = installed()
    named = set(re.findall(r"\[`(\w+)`\]\(\.\./plugins/\1/README\.md\)", page))
    assert named == set(known)
    for plugin, setting, value in re.findall(r"`(\w+)\.(\w+) = ([^`]+)`", page):
        if plugin in known:
            assert setting in (ROOT / "docs" / "settings.md").read_text().partition(f"## {plugin}\n")[2]
        assert tomllib.loads(f"value = {value}")


def test_the_readme_installs_what_its_first_profiles_need() -> None:
    use_it = (ROOT / "README.md").read_text().partition("## Use it")[2].partition("##")[0]
    assert "pluq init --users --me mail.example.org --domain example.org --profile mx --profile submission" in use_it
    assert re.search(r"pip install '\.\[all\]'", use_it)
