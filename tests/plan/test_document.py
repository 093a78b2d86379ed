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
    sections = set(re.findall(r"^### (\w+)$", hooks_page(), re.MULTILINE))
    assert sections == set(HOOKS)
    for function in HOOKS.values():
        assert (function.__doc__ or "").rstrip().endswith(".")
