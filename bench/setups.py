"""Which variants of the systems meet each other, and what keeps one from taking part."""

from __future__ import annotations

import os

from bench import variants
from bench.peers import Peer, Pluq, Postfix, Qmail

SETUPS: dict[str, dict[str, type[Peer]]] = {
    "plain": {"pluq": Pluq, "postfix": Postfix, "qmail": Qmail},
    "submission": {"pluq": variants.PluqSubmission, "postfix": variants.PostfixSubmission},
    "mx": {"pluq": variants.PluqFiltered, "postfix": variants.PostfixFiltered, "bare": variants.PostfixBare},
    "slow": {"pluq": variants.SlowPluq, "postfix": variants.SlowPostfix},
    "names": {"pluq": Pluq, "postfix": variants.SyncedPostfix},
}
NAMES = ("pluq", "postfix", "qmail", "bare")
PROGRAMS = {
    variants.PluqSubmission: (variants.DOVECOT,),
    variants.PostfixSubmission: (variants.DOVECOT,),
    variants.PostfixFiltered: (variants.OPENDKIM, variants.POLICYD),
    variants.SlowPluq: (variants.STRACE,),
    variants.SlowPostfix: (variants.STRACE,),
}


def missing(kind: type[Peer]) -> str | None:
    """Return why a peer cannot take part here, None if it can."""
    absent = [program for program in PROGRAMS.get(kind, ()) if not os.path.exists(program)]
    if absent:
        return f"{absent[0]} is missing"
    if issubclass(kind, Postfix) and not Postfix.is_possible():
        return "needs root and Debian's postfix"
    if kind is variants.PluqFiltered and os.geteuid() != 0:
        return "needs root: it gets a name server of its own"
    if kind is Qmail and not os.environ.get("BENCH_QMAIL"):
        return "BENCH_QMAIL does not name a qmail home"
    return None


def unusable(kind: type[Peer], folder: str) -> str | None:
    """Return why a peer cannot have its queue and mailboxes in this folder, None if it can."""
    return variants.why_names_cannot_be_synced(folder) if kind is variants.SyncedPostfix else None
