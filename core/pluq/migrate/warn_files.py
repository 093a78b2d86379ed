"""Warnings of files that cannot be read or say what they cannot mean."""

from __future__ import annotations

from collections.abc import Iterator

from pluq.errors import ConfigError
from pluq.migrate import rules, values
from pluq.migrate.case import Case, Details, place, rules_of
from pluq.migrate.dotqmail import dotqmail_files
from pluq.migrate.fates import WHY
from pluq.migrate.items_control import may_be_folder
from pluq.migrate.survey import relative
from pluq.migrate.tree import DANGLING, DENIED, FILE, FOLDER, LOOP, OTHER, OUTSIDE
from pluq.store.users import assignments

LARGE = 1 << 20


def files_in_control(case: Case) -> Iterator[tuple[str, str]]:
    """Yield (path, kind) of names where a file belongs: control files, users, .qmail files."""
    survey = case.survey
    for control in survey.controls.values():
        yield control.path, control.entry.kind
    for name in ("assign", "cdb"):
        path = f"{survey.home}/users/{name}"
        yield path, survey.tree.entry(path).kind
    for path in dotqmail_files(survey):
        yield path, survey.tree.entry(path).kind


def unreadable(case: Case) -> Details:
    for path, kind in files_in_control(case):
        if kind in (LOOP, DANGLING, DENIED):
            yield f"{relative(path)}: {WHY[kind]}"
        elif kind == FILE and case.survey.tree.read(path, 1) is None:
            yield f"{relative(path)}: it cannot be opened"


def not_a_file(case: Case) -> Details:
    for path, kind in files_in_control(case):
        name = path.rpartition("/")[2]
        if kind == OTHER or (kind == FOLDER and "/control/" in path and not may_be_folder(name)):
            yield f"{relative(path)}: {WHY[kind]}"


def link_outside(case: Case) -> Details:
    for path, kind in files_in_control(case):
        if kind == OUTSIDE:
            yield f"{relative(path)}: {WHY[kind]}; it was not read"


def crlf(case: Case) -> Details:
    for control in case.survey.controls.values():
        if control.crlf:
            yield f"{relative(control.path)} has lines that end in CRLF"
    for service in case.survey.services:
        if service.crlf:
            yield f"{relative(service.run)} ({service.name}) has lines that end in CRLF"
    for one in rules_of(case):
        if one.text and b"\r\n" in (case.survey.tree.read(one.text) or b""):
            yield f"{relative(one.text)} has lines that end in CRLF"


def bad_value(case: Case) -> Details:
    for control in case.survey.controls.values():
        for line, why in values.faults(control, case.facts.regular_expressions):
            yield f"{relative(control.path)}:{line}: {why}"
    assign = f"{case.survey.home}/users/assign"
    if case.survey.tree.is_file(assign):
        for line, why in values.assign_faults(case.survey.text_of(assign))[: values.FAULTS]:
            yield f"{relative(assign)}:{line}: users/assign: {why}"
    for name, bounds in values.NUMBER_VARIABLES.items():
        for _, setting in case.every(name):
            why = values.number_fault(setting.value, *bounds)
            if why:
                yield f"{place(setting)}: {name}: {why}"
        for one in rules_of(case):
            for value in one.values(name):
                why = values.number_fault(value, *bounds)
                if why:
                    yield f"{relative(one.source)}: {name}: {why}"


def regex_risk(case: Case) -> Details:
    for name in values.PATTERN_FILES:
        if case.facts.regular_expressions and case.survey.has(name):
            for line in values.risky(case.survey.controls[name]):
                yield f"control/{name}:{line}: this pattern can take exponential time"


def large_file(case: Case) -> Details:
    for control in case.survey.controls.values():
        if control.entry.kind == FILE and control.entry.size > LARGE and not control.name.endswith(".cdb"):
            yield f"{relative(control.path)} has {control.entry.size} bytes; a cdb would be better"


def rules_syntax(case: Case) -> Details:
    for one in rules_of(case):
        for line, why in one.faults[:20]:
            yield f"{relative(one.text)}:{line}: {why}"


def cdb_files(case: Case) -> Iterator[str]:
    survey = case.survey
    folder = survey.tree.entry(survey.control).real
    yield from (f"{folder}/{name}" for name in survey.controls if name.endswith(".cdb"))
    yield f"{survey.home}/users/cdb"


def cdb_invalid(case: Case) -> Details:
    for one in rules_of(case):
        if one.cdb_fault:
            yield f"{relative(one.compiled)} is no cdb"
    seen = {one.compiled for one in rules_of(case)}
    for path in cdb_files(case):
        entry = case.survey.tree.entry(path)
        if entry.kind == FILE and entry.real not in seen and rules.cdb_fault(case.survey.tree.host(entry.real)):
            yield f"{relative(path)} is no cdb"


def stale_cdb(case: Case) -> Details:
    for one in rules_of(case):
        if one.stale:
            yield f"{relative(one.compiled)} differs from {relative(one.text)}"
    yield from _stale_list(case, "morercpthosts", b"")
    yield from _stale_users(case)


def _stale_list(case: Case, name: str, prefix: bytes) -> Details:
    survey = case.survey
    if not (survey.has(name) and survey.has(f"{name}.cdb")):
        return
    try:
        compiled = set(rules.cdb_records(survey.tree.host(survey.controls[f"{name}.cdb"].entry.real)))
    except (ConfigError, OSError):
        return
    if compiled != {line.lower().encode("utf-8", "surrogateescape") for _, line in survey.lines(name)}:
        yield f"control/{name}.cdb differs from control/{name}"


def _stale_users(case: Case) -> Details:
    survey = case.survey
    text, compiled = survey.tree.read(f"{survey.home}/users/assign"), survey.tree.entry(f"{survey.home}/users/cdb")
    if text is None or compiled.kind != FILE:
        return
    try:
        expected = dict(reversed(list(assignments(text.splitlines(keepends=True), "users/assign"))))
        found = rules.cdb_records(survey.tree.host(compiled.real))
    except (ConfigError, OSError, ValueError):
        return
    if expected != found:
        yield f"{relative(survey.home)}/users/cdb differs from users/assign"
