"""The processes of a stack: fork each role, watch it, start it again, take all down in order.

A role is a function that runs until TERM. It is forked without exec, so that all roles share the memory of what was imported
before. Signals: TERM and INT drain and stop; HUP and ALRM are passed to the roles that know them.

    running  --exits-->  waiting (0.1 s, doubled at each early death, at most 30 s)  --> running
    HUP      the stack may want other roles from now on: new ones start, and those that it needs no more retire (their `farewell`):
             they do what they have begun, are not started again, and take as long as it takes
    looks    every 10 seconds: a role whose event loop stands still is ended (pluq.pulse) and started again; a server that has grown
             beyond its limit retires, and another takes its place
    TERM     stage 1 (accepting and sending) ends, then stage 2 (what stage 1 stands on); after the grace KILL.

The supervisor owns no mail and writes no file: killing it, or any role, loses nothing. The roles of a killed supervisor get TERM.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from pluq import log, pulse
from pluq.metrics import Board
from pluq.pulse import Pulse
from pluq.supervisor import privileges
from pluq.supervisor.notify import Notifier
from pluq.supervisor.privileges import Identity

FIRST_DELAY_SECONDS = 0.1
MOST_DELAY_SECONDS = 30.0
# A role that lived so long died of something new: its next start is not delayed for the former ones.
GOOD_LIFE_SECONDS = 30.0
# Stage 1 waits for deliveries in flight, as qmail-send does; a stack must still be down within seconds.
DRAIN_SECONDS = 8.0
LAST_STAGE_SECONDS = 2.0

WEIGH_SECONDS = 20.0

WATCHED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD})
CRASHED = 111


@dataclass(frozen=True)
class Role:
    """One process of the stack.

    `run` blocks until TERM. `descriptors` are the ones that the role keeps besides 0, 1 and 2. `passes` are the signals that it
    knows. `starts_setuid`: the site's programs that it starts may be set-uid, or it becomes the users that it delivers to.
    `stage` is 1 for what ends first at TERM. `farewell` is the signal for a role that another one has taken the place of. A process
    that has more than `limit` octets of memory retires; 0 for any number.
    """

    name: str
    identity: Identity
    run: Callable[[], object]
    descriptors: tuple[int, ...] = ()
    umask: int = 0o077
    passes: frozenset[signal.Signals] = frozenset()
    starts_setuid: bool = False
    stage: int = 1
    farewell: signal.Signals = signal.SIGTERM
    limit: int = 0


@dataclass
class Watch:
    """What the supervisor knows about one role. `pid` is 0 while it waits for `start_at`."""

    role: Role
    pid: int = 0
    started: float = 0.0
    start_at: float = 0.0
    early_deaths: int = 0
    pulse: Pulse = field(default_factory=Pulse)


@dataclass
class Supervisor:
    """Runs the roles until TERM.

    `reload` is called at HUP and returns the roles of the stack from now on; a role that stays is the same object, and gets the signal.
    None: the configuration cannot be used, everything stays as it is. `board` has the figures of the stack, where the site wants any.
    """

    roles: Sequence[Role]
    notifier: Notifier
    reload: Callable[[], Sequence[Role] | None] = lambda: None
    drain_seconds: float = DRAIN_SECONDS
    clock: Callable[[], float] = time.monotonic
    board: Board | None = None
    _watches: list[Watch] = field(default_factory=list, init=False)
    _retired: list[Watch] = field(default_factory=list, init=False)
    _weigh_at: float = field(default=0.0, init=False)
    _look_at: float = field(default=0.0, init=False)

    def run(self) -> int:
        """Start the roles, return 0 when all of them are down."""
        self._watches = [Watch(role) for role in self.roles]
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            self._start_due()
            self.notifier.ready()
            self._watch()
            self.notifier.stopping()
            self._stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
        return 0

    def _watch(self) -> None:
        while True:
            info = signal.sigtimedwait(WATCHED, self._patience())
            if self.notifier.watchdog_seconds is not None:
                self.notifier.alive()
            match info and info.si_signo:
                case signal.SIGTERM | signal.SIGINT:
                    return
                case signal.SIGHUP:
                    self._reload()
                case signal.SIGALRM:
                    self._pass(signal.SIGALRM)
            self._reap()
            self._look()
            self._start_due()
            self._weigh()

    def _patience(self) -> float:
        """Return how long nothing has to be done: until the next start, the next look or the next word to the watchdog."""
        now = self.clock()
        waits = [max(watch.start_at - now, 0.0) for watch in self._watches if not watch.pid]
        waits.append(max(self._look_at - now, 0.0))
        if self.board is not None:
            waits.append(max(self._weigh_at - now, 0.0))
        return min([*waits, self.notifier.watchdog_seconds or 3600.0])

    def _weigh(self) -> None:
        """Note how much memory the roles take, now and then."""
        if self.board is not None and self._weigh_at <= self.clock():
            self.board.weigh({watch.role.name: watch.pid for watch in self._watches if watch.pid})
            self._weigh_at = self.clock() + WEIGH_SECONDS

    def _look(self) -> None:
        """End what stands still, and put others in the place of those that have grown too large."""
        if self._look_at > self.clock():
            return
        self._look_at = self.clock() + pulse.LOOK_SECONDS
        for watch in [*self._watches, *self._retired]:
            earned = watch.pulse.look(watch.pid) if watch.pid else None
            if earned is not None:
                say(f"{watch.role.name} (pid {watch.pid}) stands still, ending it")
                os.kill(watch.pid, earned)
        for watch in list(self._watches):
            size = pulse.resident(watch.pid) if watch.pid and watch.role.limit else 0
            if size > watch.role.limit:
                say(f"{watch.role.name} (pid {watch.pid}) has grown to {size >> 20} MiB, another takes its place")
                self._watches[self._watches.index(watch)] = Watch(watch.role)
                self._start_due()
                self._retire(watch)

    def _start_due(self) -> None:
        now = self.clock()
        for watch in self._watches:
            if not watch.pid and watch.start_at <= now:
                watch.pulse, watch.started = Pulse(), now
                watch.pid = fork_role(watch.role, self.board, watch.pulse)
                self._tell(watch.role.name, watch.pid)

    def _reap(self) -> None:
        """Note who ended, and when it may start again."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._retired = [watch for watch in self._retired if watch.pid != pid]
            for watch in self._watches:
                if watch.pid == pid:
                    self._ended(watch, os.waitstatus_to_exitcode(status))

    def _ended(self, watch: Watch, code: int) -> None:
        now = self.clock()
        lived = now - watch.started
        watch.early_deaths = 0 if lived >= GOOD_LIFE_SECONDS else watch.early_deaths + 1
        delay = restart_delay(watch.early_deaths)
        how = f"was killed by signal {-code}" if code < 0 else f"exited {code}"
        say(f"{watch.role.name} (pid {watch.pid}) {how} after {lived:.1f} s, next start in {delay:.1f} s")
        watch.pid, watch.start_at = 0, now + delay
        self._tell(watch.role.name, 0)

    def _tell(self, role: str, pid: int | None) -> None:
        if self.board is not None:
            self.board.tell(role, pid)

    def _reload(self) -> None:
        self.notifier.reloading()
        roles = self.reload()
        if roles is not None:
            self._replace(roles)
        self.notifier.ready()

    def _replace(self, roles: Sequence[Role]) -> None:
        """Go on with these roles. The new ones run before the others retire, so that somebody always accepts."""
        known = {id(watch.role): watch for watch in self._watches}
        wanted = {id(role) for role in roles}
        gone = [watch for key, watch in known.items() if key not in wanted]
        self._watches = [watch for key, watch in known.items() if key in wanted]
        self._pass(signal.SIGHUP)
        self._watches += [Watch(role) for role in roles if id(role) not in known]
        self._start_due()
        for name in {watch.role.name for watch in gone} - {role.name for role in roles}:
            self._tell(name, None)
        for watch in gone:
            self._retire(watch)

    def _retire(self, watch: Watch) -> None:
        """Let a role end in its own time: another one has taken its place."""
        if watch.pid:
            os.kill(watch.pid, watch.role.farewell)
            self._retired.append(watch)

    def _pass(self, signum: signal.Signals) -> None:
        for watch in self._watches:
            if watch.pid and signum in watch.role.passes:
                os.kill(watch.pid, signum)

    def _stop(self) -> None:
        """Take the stages down one after the other. Whoever outlives the patience is killed: nothing depends on its end."""
        watched = [*self._watches, *self._retired]
        stages = sorted({watch.role.stage for watch in watched})
        for stage in stages:
            watches = [watch for watch in watched if watch.role.stage == stage]
            self._signal(watches, signal.SIGTERM)
            if not self._wait_down(watches, LAST_STAGE_SECONDS if stage == stages[-1] else self.drain_seconds):
                self._signal(watches, signal.SIGKILL)
                self._wait_down(watches, LAST_STAGE_SECONDS)

    def _signal(self, watches: Sequence[Watch], signum: signal.Signals) -> None:
        for watch in watches:
            if watch.pid:
                if signum == signal.SIGKILL:
                    say(f"{watch.role.name} (pid {watch.pid}) does not end, killing it")
                os.kill(watch.pid, signum)

    def _wait_down(self, watches: Sequence[Watch], seconds: float) -> bool:
        deadline = self.clock() + seconds
        while any(watch.pid for watch in watches):
            self._reap_stopped(watches)
            left = deadline - self.clock()
            if left <= 0:
                break
            if any(watch.pid for watch in watches):
                signal.sigtimedwait({signal.SIGCHLD}, left)
        return not any(watch.pid for watch in watches)

    def _reap_stopped(self, watches: Sequence[Watch]) -> None:
        for watch in watches:
            if watch.pid and os.waitpid(watch.pid, os.WNOHANG)[0]:
                watch.pid = 0


def restart_delay(early_deaths: int) -> float:
    """Return the seconds to wait before the next start. At once after a good life: mail is waiting."""
    if early_deaths == 0:
        return 0.0
    return min(FIRST_DELAY_SECONDS * 2.0 ** min(early_deaths - 1, 20), MOST_DELAY_SECONDS)


def say(text: str) -> None:
    """Write one line for the administrator, in one write."""
    log.say("supervisor", text)


def freeze_memory() -> None:
    """Leave what is imported out of garbage collection: a collector that touches it would unshare its pages."""
    gc.collect()
    gc.freeze()


def fork_role(role: Role, board: Board | None = None, pulse: Pulse | None = None) -> int:
    """Start one role and return its process number. The signals in WATCHED must be blocked."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        run_child(role, parent, board, pulse)
    return pid


def run_child(role: Role, parent: int, board: Board | None = None, pulse: Pulse | None = None) -> NoReturn:
    """Be this role until it ends. An exception that gets so far is a fault of ours: it is shown, and the role starts anew."""
    code = CRASHED
    try:
        os.setpgid(0, 0)  # an interrupt at the terminal is the supervisor's to spread, in order
        settle(role, parent)
        log.be(role.name)
        if board is not None:
            board.enter(role.name)
        if pulse is not None:
            pulse.enter()
        result = role.run()
        code = result if isinstance(result, int) else 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else CRASHED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def settle(role: Role, parent: int) -> None:
    """Give up what is not the role's: descriptors, groups, user, privileges; take default signals."""
    close_others(role.descriptors)
    os.umask(role.umask)
    privileges.set_limits()
    privileges.name_process(f"pluq-{role.name}")
    privileges.become(role.identity)
    if not role.starts_setuid:
        privileges.forbid_new_privileges()
    for signum in WATCHED:
        signal.signal(signum, signal.SIG_DFL)
    if signal.SIGHUP not in role.passes:  # nothing to read again: who signals all that is called pluq must not end it
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    privileges.end_with_parent(parent)
    # What we pass on waits until the role has come so far that it listens, and lifts the block: it would be its end before.
    signal.pthread_sigmask(signal.SIG_SETMASK, role.passes)


def close_others(keep: Sequence[int]) -> None:
    """Close every descriptor above 2 that is not to be kept."""
    start = 3
    for fd in sorted(keep):
        os.closerange(start, fd)
        start = max(start, fd + 1)
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
