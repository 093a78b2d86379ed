"""What the scheduler reads from the control files.

At start: queuelifetime, concurrencylocal, concurrencyremote, envnoathost, bouncefrom, bouncehost, doublebounceto,
doublebouncehost, locals, percenthack, virtualdomains, and me, on which others fall back. HUP reads locals, virtualdomains and the two
concurrencies again; when one of them cannot be read, everything stays as it was. me stays what it was at the start.

Source: qmail-send(8), qmail-control(5); getcontrols and regetcontrols in qmail-send.c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pluq.errors import ConfigError
from pluq.mail.bounce import Postmaster
from pluq.send.rewrite import Routing
from pluq.store.control import ControlFiles

DEFAULT_LIFETIME = 604800
DEFAULT_CONCURRENCY = (10, 20)
CONCURRENCY_FILES = ("concurrencylocal", "concurrencyremote")


@dataclass(frozen=True)
class Settings:
    """`lifetime` in seconds; `concurrency` of the local and the remote channel, before the deliverers' own limits; `me` as at the start."""

    lifetime: int
    concurrency: tuple[int, int]
    postmaster: Postmaster
    routing: Routing
    me: bytes | None = None


def read_settings(controls: ControlFiles) -> Settings:
    """Return the settings. Raises ConfigError for a file that cannot be read, and when nothing says what is local."""
    envnoathost = _or(controls.line_or_me("envnoathost"), b"envnoathost")
    percenthack = controls.lines("percenthack") or ()
    me = controls.me()
    routing = Routing(local_domains(controls, me), controls.lines("virtualdomains") or (), percenthack, envnoathost)
    lifetime = controls.number("queuelifetime", DEFAULT_LIFETIME)
    return Settings(lifetime, read_concurrency(controls), read_postmaster(controls), routing, me)


def reread(settings: Settings, controls: ControlFiles) -> Settings:
    """Return the settings with what HUP reads again. Raises ConfigError."""
    domains = local_domains(controls, settings.me)
    routing = settings.routing.with_domains(domains, controls.lines("virtualdomains") or ())
    return replace(settings, routing=routing, concurrency=read_concurrency(controls))


def local_domains(controls: ControlFiles, me: bytes | None) -> list[bytes]:
    """Return the domains that are delivered here: the locals, or the name of this host alone."""
    domains = controls.lines("locals")
    if domains is not None:
        return domains
    if me is None:
        raise ConfigError(controls.path("locals"), "neither this file nor control/me exists")
    return [me]


def read_concurrency(controls: ControlFiles) -> tuple[int, int]:
    """Return how many deliveries each channel may have in progress; 0 puts a channel on hold."""
    local, remote = (
        controls.number(name, default) for name, default in zip(CONCURRENCY_FILES, DEFAULT_CONCURRENCY, strict=True)
    )
    return local, remote


def read_postmaster(controls: ControlFiles) -> Postmaster:
    """Return who speaks in bounces."""
    user = _or(controls.line("bouncefrom"), b"MAILER-DAEMON")
    host = _or(controls.line_or_me("bouncehost"), b"bouncehost")
    double_user = _or(controls.line("doublebounceto"), b"postmaster")
    double_host = _or(controls.line_or_me("doublebouncehost"), b"doublebouncehost")
    return Postmaster(user, host, double_user + b"@" + double_host)


def _or(line: bytes | None, default: bytes) -> bytes:
    """An empty file is an empty setting, not the default."""
    return default if line is None else line
