"""Where the .qmail files of a site are: in the homes of alias, of its users, of users/assign and of vpopmail's domains.

Source: dot-qmail(5), qmail-users(5); vpopmail.
"""

from __future__ import annotations

from pluq.migrate.survey import Survey
from pluq.migrate.tree import FOLDER


def dotqmail_files(survey: Survey) -> list[str]:
    """Return the .qmail files of alias, of users, of users/assign and of vpopmail's domains."""
    homes = [survey.alias, *(user.home for user in survey.accounts.users.values())]
    assign = survey.text_of(f"{survey.home}/users/assign")
    homes += [fields[4] for line in assign.splitlines() if len(fields := line.split(":")) > 6]
    vpopmail = survey.accounts.users.get("vpopmail")
    domains = f"{vpopmail.home if vpopmail else '/home/vpopmail'}/domains"
    for name in survey.tree.names(domains)[:5000]:
        homes.append(f"{domains}/{name}")
        homes += [
            f"{domains}/{name}/{inner}"
            for inner in survey.tree.names(f"{domains}/{name}")[:1000]
            if "." in name and "." in inner
        ]
    found: dict[str, None] = {}
    for home in homes:
        entry = survey.tree.entry(home) if home.startswith("/") else None
        if entry is None or entry.kind != FOLDER:
            continue
        for name in survey.tree.names(entry.real):
            if name.startswith(".qmail"):
                found[f"{entry.real.rstrip('/')}/{name}"] = None
    return list(found)[:20_000]
