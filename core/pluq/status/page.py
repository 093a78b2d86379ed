"""The page for people: one HTML document with everything in it, drawn from a snapshot.

All facts are there without a script; the script only asks again. The policy lets nothing in but this style sheet and this script, by
their hashes, and what strangers wrote (domains, addresses) is escaped wherever it stands.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from html import escape
from importlib import resources

from pluq.status import sections
from pluq.status.health import Check
from pluq.status.history import History
from pluq.status.snapshot import Snapshot

STYLE = resources.files("pluq.status").joinpath("style.css").read_text("utf-8")
SCRIPT = resources.files("pluq.status").joinpath("refresh.js").read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">To the figures</a>
<div class="wide">
<header class="page">
<div class="head" id="top">{top}</div>
<div class="tools"><p class="note" id="note" role="status"></p><button id="refresh" type="button" hidden>Pause updates</button></div>
</header>
<main id="main">{main}</main>
<footer><nav aria-label="Other forms"><a href="/metrics">/metrics</a><a href="/health">/health</a></nav></footer>
</div>
<script>{script}</script>
</body>
</html>
"""


def render(name: str, snapshot: Snapshot, checks: Sequence[Check], history: History, began: float) -> str:
    """Return the page. `name` is the host's; `began` when the status role started, in seconds since the epoch."""
    failing = [check for check in checks if not check.is_well]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(snapshot.now))
    badge = '<span class="badge good">well</span>' if not failing else '<span class="badge bad">needs attention</span>'
    top = (
        f"<h1>{escape(name)}</h1>{badge}"
        f'<p class="when"><time datetime="{when.replace(" ", "T")}Z">{when}</time> UTC</p>'
    )
    parts = [
        sections.alarm(failing),
        sections.tiles(snapshot, history, began),
        '<div class="grid">',
        sections.deliveries(snapshot, history),
        sections.queue(snapshot),
        sections.destinations(snapshot),
        sections.oldest(snapshot),
        sections.incoming(snapshot, history),
        sections.shares(snapshot),
        sections.plugins(snapshot),
        sections.roles(snapshot),
        sections.health(checks),
        "</div>",
    ]
    title = f"{'! ' if failing else ''}{escape(name)} - mail"
    return DOCUMENT.format(title=title, style=STYLE, script=SCRIPT, top=top, main="".join(parts))
