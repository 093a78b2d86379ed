"""The pages that are made from the code are the ones that the code makes now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pluq.hookspecs import HOOKS
from pluq.plan.document import hooks_page, settings_page

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "make"), [("hooks.md", hooks_page), ("settings.md", settings_page)])
def test_a_generated_page_is_up_to_date(page: str, make: object) -> None:
    assert callable(make)
    assert (DOCS / page).read_text() == make(), f"run: pluq docs {page[:-3]} > docs/{page}"


def test_every_hook_has_a_sentence_and_its_parameters() -> None:
    hooks, _, _ = hooks_page().partition("## The objects")
    assert set(re.findall(r"^### (\w+)$", hooks, re.MULTILINE)) == set(HOOKS)
    for function in HOOKS.values():
        assert (function.__doc__ or "").rstrip().endswith(".")


def test_every_object_that_a_hook_is_given_is_described_with_its_attributes() -> None:
    page = hooks_page().partition("## The objects")[2]
    named = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    assert {
        "Session",
        "Transaction",
        "Recipient",
        "Message",
        "Delivery",
        "Envelope",
        "Draft",
        "Login",
        "Connection",
    } <= named
    assert "| `remote_ip` | `str` | The client's address, without brackets. |" in page
    assert "| `get(name)` | `bytes \\| None` | Return the value of the first field of that name" in page
    assert "| `await read_line(limit)` | `bytes` |" in page
    assert "`_dns`" not in page
