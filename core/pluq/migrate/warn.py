"""What an administrator should know before the move: one function for each kind of warning, in WARNINGS.

A warning names the file, variable, port or program, and no secret. Each function gets a Case and yields the details.
"""

from __future__ import annotations

from collections.abc import Callable

from pluq.migrate import warn_access, warn_files, warn_names, warn_past
from pluq.migrate.case import Case, Details

WARNINGS: tuple[tuple[str, Callable[[Case], Details]], ...] = (
    ("open-relay", warn_access.open_relay),
    ("relay-wide", warn_access.relay_wide),
    ("auth-without-tls", warn_access.auth_without_tls),
    ("auth-no-checker", warn_access.auth_no_checker),
    ("weak-tls", warn_access.weak_tls),
    ("key-readable", warn_access.key_readable),
    ("cert-unreadable", warn_access.cert_unreadable),
    ("credentials-in-file", warn_access.credentials_in_file),
    ("pop-before-smtp", warn_access.pop_before_smtp),
    ("bare-lf", warn_access.bare_lf),
    ("runs-as-root", warn_access.runs_as_root),
    ("dead-dnsbl", warn_past.dead_dnsbl),
    ("regex-risk", warn_files.regex_risk),
    ("domainkeys-obsolete", warn_past.domainkeys_obsolete),
    ("crlf", warn_files.crlf),
    ("unreadable", warn_files.unreadable),
    ("not-a-file", warn_files.not_a_file),
    ("link-outside", warn_files.link_outside),
    ("bad-value", warn_files.bad_value),
    ("large-file", warn_files.large_file),
    ("rules-syntax", warn_files.rules_syntax),
    ("cdb-invalid", warn_files.cdb_invalid),
    ("stale-cdb", warn_files.stale_cdb),
    ("unparsable", warn_names.unparsable),
    ("unknown-control", warn_names.unknown_control),
    ("unknown-env", warn_names.unknown_env),
    ("program-missing", warn_names.program_missing),
    ("no-postmaster", warn_names.no_postmaster),
    ("contradiction", warn_names.contradiction),
    ("no-effect", warn_past.no_effect),
    ("defect-fixed", warn_past.defect_fixed),
    ("srs-incomplete", warn_past.srs_incomplete),
    ("queue-not-empty", warn_past.queue_not_empty),
    ("queue-layout", warn_past.queue_layout),
    ("wrapper-not-carried", warn_past.wrapper_not_carried),
    ("not-supported", warn_past.not_supported),
    ("plugin-missing", warn_past.plugin_missing),
    ("service-down", warn_past.service_down),
)


def all_warnings(case: Case) -> list[dict[str, str]]:
    """Return the warnings in the order of the table, each detail once."""
    found = []
    for id_, function in WARNINGS:
        found += [{"id": id_, "detail": detail} for detail in dict.fromkeys(function(case))]
    return found
