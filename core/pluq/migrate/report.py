"""The whole migration of a site as one report: what is installed, profiles, items, warnings, and pluq.toml.

The same site gives the same report. No password, hash or key of the site is in it: settings hold names of files, never what
they hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pluq.config.settings import declarations
from pluq.config.site import parse_site
from pluq.errors import ConfigError
from pluq.migrate import toml
from pluq.migrate.case import Case
from pluq.migrate.facts import Facts
from pluq.migrate.items import all_items
from pluq.migrate.listener import Listener
from pluq.migrate.needs import Profile
from pluq.migrate.profiles import Catalogue, make_profiles
from pluq.migrate.recognise import recognise
from pluq.migrate.survey import Survey
from pluq.migrate.warn import all_warnings
from pluq.plan.load import installed

Report = dict[str, Any]


def installed_plugins() -> Catalogue:
    """Return the installed plugins with the declarations of their settings; none for one that cannot be imported."""
    found: dict[str, Any] = {}
    for name, entry in sorted(installed().items()):
        try:
            found[name] = declarations(entry.load().settings_class)
        except (ImportError, AttributeError):
            continue
    return found


def make_report(survey: Survey, catalogue: Catalogue) -> Report:
    """Return the report; its form is that of `pluq migrate --json`."""
    profiles, clashes = make_profiles(survey, catalogue)
    facts = Facts(survey, profiles, catalogue)
    listeners = [
        listener
        for service, launch in survey.launches
        if launch.chain.listener and launch.chain.server and not service.down
        and (listener := Listener(survey, service, launch)).address
    ]  # fmt: skip
    kept = [(profile, [name for name in profile.ordered() if name in catalogue]) for profile in profiles]
    case = Case(survey, facts, listeners, profiles, clashes, missing_plugins(profiles, catalogue))
    text = toml.document(kept, _head(survey, case.missing))
    warnings = all_warnings(case)
    try:
        parse_site("pluq.toml", text.encode("utf-8", "surrogateescape"))
    except ConfigError as error:
        warnings.append({"id": "x-toml", "detail": str(error)})
    return {
        "recognised": recognise(survey),
        "profiles": [_profile(profile, names) for profile, names in kept],
        "items": [_item(item) for item in all_items(facts)],
        "warnings": warnings,
        "toml": text,
    }


def missing_plugins(profiles: list[Profile], catalogue: Catalogue) -> dict[str, list[str]]:
    """Return the plugins that are needed and not installed, each with the profiles that need it."""
    missing: dict[str, list[str]] = {}
    for profile in profiles:
        for name in profile.ordered():
            if name not in catalogue:
                missing.setdefault(name, []).append(f"{profile.name} ({profile.needs[name]})")
    return missing


def _profile(profile: Profile, plugins: list[str]) -> Report:
    return {
        "name": profile.name,
        "listen": profile.listen,
        "tls": profile.tls,
        "auth": profile.auth,
        "plugins": plugins,
    }


def _item(item: Any) -> Report:
    return {key: getattr(item, key) for key in ("kind", "name", "source", "status", "detail")}


def _head(survey: Survey, missing: dict[str, list[str]]) -> Iterator[str]:
    yield "Made by `pluq migrate` from the qmail home of this site; `pluq migrate --undo` takes it back."
    yield "Control files, users, .qmail files and tcprules are used as they are. `pluq check` says whether all fits."
    for name, places in missing.items():
        yield f"Not installed, so left out: {name}, for {', '.join(places)}"


def readable(report: Report) -> str:
    """Return the report for people."""
    lines = ["Installed: " + ", ".join(found["id"] for found in report["recognised"]), ""]
    for profile in report["profiles"]:
        where = " ".join(profile["listen"]) or "-"
        lines.append(
            f"{profile['name']:<12} {where:<22} tls {profile['tls']:<9} auth {profile['auth']:<9} {' '.join(profile['plugins'])}"
        )
    for title, status in (("Changed", "changed"), ("Not carried over", "not_carried"), ("Unused", "unused")):
        chosen = [item for item in report["items"] if item["status"] == status]
        lines += ["", f"{title}: {len(chosen)}"]
        lines += [f"  {item['name']} ({item['source']}): {item['detail']}" for item in chosen]
    carried = sum(item["status"] == "carried" for item in report["items"])
    lines += ["", f"Carried over as it is: {carried}", "", f"Warnings: {len(report['warnings'])}"]
    lines += [f"  {warning['id']}: {warning['detail']}" for warning in report["warnings"]]
    text = "\n".join([*lines, "", "control/pluq.toml would be:", "", report["toml"]])
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
