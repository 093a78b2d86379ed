"""qmailctl VERB

One command for the mail services, whoever supervises them (daemontools, runit or systemd).

PLUQ_SERVICES names the scan directory where it is not /service, /etc/service or /var/service.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pluq.config import Home
from pluq.errors import ConfigError

if TYPE_CHECKING:
    from pluq.supervisor.service import Services

FAILED = 111
USAGE = 1
# Some init scripts look here whether a service was started by them.
SUBSYS_LOCK = "/var/lock/subsys/qmail"
RULES = ("/etc/tcp.smtp", "control/tcp.smtp")


def start(services: Services, home: Home) -> bool:
    print("Starting qmail")
    done = True
    for name in services.targets:
        if not services.is_supervised(name):
            print(f"{name} supervise not running")
            done = False
        else:
            done &= services.tell("up", name)
    touch_lock()
    return done


def stop(services: Services, home: Home) -> bool:
    """Mail stops coming in before it stops going out."""
    print("Stopping qmail...")
    done = True
    for name in reversed(list(services.targets)):
        print(f"  {name}", flush=True)
        done &= services.tell("down", name)
    remove_lock()
    return done


def restart(services: Services, home: Home) -> bool:
    print("Restarting qmail:")
    others = services.others
    done = True
    for name in others:
        print(f"* Stopping {name}.", flush=True)
        done &= services.tell("down", name)
    if services.scheduler:
        print(f"* Sending {services.scheduler} SIGTERM and restarting.", flush=True)
        done &= services.tell("term", services.scheduler)
    for name in others:
        print(f"* Restarting {name}.", flush=True)
        done &= services.tell("up", name)
    return done


def to_scheduler(services: Services, sentence: str, action: str) -> bool:
    if services.scheduler is None:
        print("No service qmail-send or pluq.")
        return False
    print(sentence.format(services.scheduler), flush=True)
    return services.tell(action, services.scheduler)


def reload(services: Services, home: Home) -> bool:
    return to_scheduler(services, "Sending HUP signal to {}.", "hup")


def flush(services: Services, home: Home) -> bool:
    """Forget which hosts did not answer, then try everything that waits."""
    sentence = "Flushing timeout table and sending ALRM signal to {}."
    return run_program(home, "qmail-tcpok") & to_scheduler(services, sentence, "alarm")


def pause(services: Services, home: Home) -> bool:
    return to_all(services, "Pausing {}", "pause")


def cont(services: Services, home: Home) -> bool:
    return to_all(services, "Continuing {}", "cont")


def to_all(services: Services, sentence: str, action: str) -> bool:
    done = True
    for name in services.targets:
        print(sentence.format(name), flush=True)
        done &= services.tell(action, name)
    return done


def show_status(services: Services, home: Home) -> bool:
    sys.stdout.flush()
    for name in services.targets:
        services.status(name)
    return run_program(home, "qmail-qstat")


def show_queue(home: Home) -> bool:
    return run_program(home, "qmail-qstat") & run_program(home, "qmail-qread")


def compile_rules(home: Home) -> bool:
    """Compile the rules of the SMTP listener, wherever the site keeps them."""
    from pluq.store.cdb import write_cdb
    from pluq.store.control import read_file
    from pluq.store.tcprules import parse_rules

    found = False
    for name in RULES:
        path = os.path.join(home.path, name)
        text = read_file(path)
        if text is not None:
            write_cdb(f"{path}.cdb", parse_rules(text, path), f"{path}.tmp")
            print(f"Reloaded {path}.")
            found = True
    if not found:
        raise ConfigError(os.path.join(home.path, RULES[0]), "no rules there nor in control/tcp.smtp")
    return True


def run_program(home: Home, name: str) -> bool:
    """Run a program of the home, whoever wrote the one that is there."""
    from pluq.supervisor.service import run

    sys.stdout.flush()
    return run([f"{home.bin}/{name}"])


def touch_lock() -> None:
    if not os.path.isdir(os.path.dirname(SUBSYS_LOCK)):
        return
    try:
        with open(SUBSYS_LOCK, "ab"):
            os.utime(SUBSYS_LOCK)
    except OSError as error:
        # The services run all the same.
        sys.stderr.write(f"qmailctl: {SUBSYS_LOCK}: {error.strerror}\n")


def remove_lock() -> None:
    try:
        os.unlink(SUBSYS_LOCK)
    except OSError:
        pass  # not there, or not ours


VERBS: dict[str, tuple[Callable[[Services, Home], bool], str]] = {
    "start": (start, "start all services"),
    "stop": (stop, "stop them: nothing comes in, nothing goes out"),
    "restart": (restart, "stop and start what takes mail in; TERM to the scheduler, which starts again"),
    "reload": (reload, "HUP to the scheduler: read locals and virtualdomains again"),
    "hup": (reload, "same as reload"),
    "pause": (pause, "freeze all services: clients may connect, nothing moves"),
    "cont": (cont, "go on after pause"),
    "stat": (show_status, "show the state of the services and the size of the queue"),
    "doqueue": (flush, "try every waiting message now"),
    "flush": (flush, "same as doqueue"),
    "alarm": (flush, "same as doqueue"),
}
# Verbs that need no services.
HOME_VERBS: dict[str, tuple[Callable[[Home], bool], str]] = {
    "queue": (show_queue, "show the queue, message by message"),
    "cdb": (compile_rules, "compile tcp.smtp, the rules for SMTP clients"),
}


def help_text() -> str:
    lines = [(verb, text) for table in (VERBS, HOME_VERBS) for verb, (_, text) in table.items()]
    return "".join(f"{verb:>8} -- {text}\n" for verb, text in lines)


def main() -> int:
    from pluq.supervisor.service import find_services

    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    home = Home.from_environment()
    try:
        if verb in ("help", "--help"):
            sys.stdout.write(help_text())
            return 0
        if verb in HOME_VERBS:
            return 0 if HOME_VERBS[verb][0](home) else FAILED
        if verb in VERBS:
            return 0 if VERBS[verb][0](find_services(os.environ), home) else FAILED
    except ConfigError as error:
        sys.stderr.write(f"qmailctl: {error}\n")
        return FAILED
    except OSError as error:
        sys.stderr.write(f"qmailctl: {error.filename}: {error.strerror}\n")
        return FAILED
    sys.stderr.write(f"Usage: {sys.argv[0]} {{{'|'.join([*VERBS, *HOME_VERBS, 'help'])}}}\n")
    return USAGE
