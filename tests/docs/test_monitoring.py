"""docs/monitoring.md says what the declarations say."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from pluq.config.watching import Status
from pluq.log.objects import FIELDS
from pluq.metrics.families import BY_NAME, table
from pluq.smtpd.watch import REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()


def rows(heading):
    """Return the rows of the table whose first head this is, as lists of cells."""
    lines = PAGE[PAGE.index(f"| {heading} |") :].splitlines()[2:]
    end = next((place for place, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def test_every_event_stands_there_with_its_fields():
    said = {event.strip("`"): tuple(re.findall(r"`(\w+)`", names)) for event, _when, names in rows("event")}
    assert said == dict(FIELDS)


def test_the_table_of_figures_is_the_declarations():
    assert table() in PAGE


def test_every_setting_stands_there():
    named = {word for row in rows("setting of `[status]`") for word in re.findall(r"`(\w+)`", row[0])}
    assert named == {field.name for field in fields(Status)}


def test_every_reason_stands_there():
    for reason in {*REASONS.values(), "queue", "trouble", "plugin"}:
        assert re.search(rf"\b{reason}\b", PAGE[PAGE.index("`reason` is one of") :])


def test_examples_of_objects_are_such():
    for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        found = json.loads(block)
        if "event" in found:
            assert set(found) == {"time", "event", "role", *FIELDS[found["event"]]}


def test_alerts_name_figures_that_there_are():
    (alerts,) = re.findall(r"```yaml\n(groups:.*?)```", PAGE, re.DOTALL)
    for name in re.findall(r"\bpluq_\w+", alerts):
        assert name in BY_NAME or name.removesuffix("_bucket") in BY_NAME, name
