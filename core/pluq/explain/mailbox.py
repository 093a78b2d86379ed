"""Who gets a local address, which .qmail file says what becomes of it, and whether that can be done.

The account is looked up as qmail-lspawn does it. The rest is seen by a child that has become the user: a home that may not be entered, a
file that may not be read or written show as they would in a delivery. Programs are named and not run.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from functools import partial

from pluq.config import Home
from pluq.errors import ConfigError, PermanentFailure, TemporaryFailure
from pluq.explain.children import identity_of, run_as
from pluq.explain.door import octets, text_of
from pluq.explain.places import assignment_place
from pluq.explain.step import Found, Outcome, Step, failed, text
from pluq.local import dotqmail, report
from pluq.local.instructions import Instruction, Kind, file_names, numbered, safe_extension
from pluq.local.lookup import Accounts, only_account
from pluq.local.order import Order
from pluq.local.plugins import forwarded, load_plan
from pluq.local.workers import default_delivery, foreign_program
from pluq.plan import Plan
from pluq.store import maildir
from pluq.store.cdb import Cdb
from pluq.store.oserror import error_text
from pluq.store.passwd import NFS, find_account
from pluq.store.users import Account, encode_account, find_assignment, parse_account
from pluq.supervisor.privileges import Identity, current_identity

Facts = dict[str, object]
LOOKUP_SECONDS = 30.0


def deliver_here(home: Home, address: bytes, sender: bytes, depth: int) -> Found:
    """Return what a delivery to a local address would do. The facts: whom it forwards to, and with which sender."""
    local, _, host = address.rpartition(b"@")
    account, steps = account_of(home, local, depth)
    if account is None:
        return Found(steps, {})
    if not account.uid and not home.ids().single:
        return Found([*steps, failed(report.FIXED[report.ROOT], depth=depth)], {})
    order = Order(account.user, account.home, local, account.dash, account.ext, host, sender, default_delivery(home))
    program = foreign_program(home, "qmail-local", "QMAILLOCAL")
    if program is not None:
        return Found([*steps, Step("this program delivers it: what it does cannot be said", program, depth=depth)], {})
    found = run_as(identity_for(home, account), partial(look, home, order, depth))
    return Found([*steps, *found.steps], found.facts)


def identity_for(home: Home, account: Account) -> Identity:
    """Return whom the delivery is made as."""
    if home.ids().single or os.geteuid() != 0:
        return current_identity()
    return Identity(account.uid, account.gid)


# -- the account


def account_of(home: Home, local: bytes, depth: int) -> tuple[Account | None, list[Step]]:
    """Return who controls a local part, None where that cannot be known; and why."""
    accounts = Accounts(home)
    accounts.refresh()
    try:
        account = accounts.assigned(local)
    except ConfigError as error:
        return None, [Step(f"{report.FIXED[report.CDB][1:-1].decode()} {error}", "users/cdb", Outcome.DEFERRED, depth)]
    except ValueError as error:
        return None, [Step(f"the assignment is no account: {error}", "users/cdb", Outcome.DEFERRED, depth)]
    if account is not None:
        found = find_assignment(Cdb(accounts.path), local)
        assert found is not None, "the same file and the same question"
        place, warning = assignment_place(home, *found)
        warned = [Step(warning, "users/cdb", Outcome.WARNING, depth)] if warning else []
        return account, [controls(account, place, depth), *warned]
    if home.ids().single:
        account = only_account(home, local)
        return account, [controls(account, "the stack has one user", depth)]
    program = foreign_program(home, "qmail-getpw", "QMAILGETPW")
    look = partial(by_program, home, program, local) if program else partial(by_password_file, local)
    answer = run_as(identity_of(home, "qmailp", "nofiles"), look)
    record = answer.facts.get("account")
    if record is None:
        return None, [Step(step.what, step.by, step.outcome, depth) for step in answer.steps]
    account = parse_account(octets(str(record)))
    return account, [controls(account, program or "the password file, as qmail-getpw reads it", depth)]


def controls(account: Account, by: str, depth: int) -> Step:
    rest = f"{text(account.dash)}{text(account.ext)}"
    what = f"the user is {text(account.user)} (uid {account.uid}), in {text(account.home)}"
    return Step(f"{what}, extension {rest!r}" if rest else what, by, depth=depth)


def by_password_file(local: bytes) -> Found:
    try:
        account = find_account(local)
    except TemporaryFailure as failure:
        return Found([failed(report.FIXED[report.NFS if failure.text == NFS else report.SYSTEM], failure.text)], {})
    if account is None:
        return Found([failed(report.FIXED[report.NO_ALIAS], "the password file")], {})
    return Found([], {"account": text_of(encode_account(account))})


def by_program(home: Home, program: str, local: bytes) -> Found:
    done = subprocess.run([program, local], cwd=home.path, stdout=subprocess.PIPE, timeout=LOOKUP_SECONDS, check=False)
    if done.returncode:
        return Found([failed(report.report(done.returncode, b""), program)], {})
    return Found([], {"account": text_of(done.stdout)})


# -- in the child, as the user


def look(home: Home, order: Order, depth: int) -> Found:
    """Return what the .qmail file of this order says."""
    steps: list[Step] = []
    facts: Facts = {}
    try:
        folder = dotqmail.enter_home(order.home)
        found = dotqmail.find(order, folder)
    except TemporaryFailure as failure:
        return Found([Step(failure.text, where(order), Outcome.DEFERRED, depth)], {})
    except PermanentFailure as failure:
        looked = ", ".join(text(name) for name, _ in file_names(order.dash, order.ext))
        return Found([Step(failure.text, f"{text(order.home)} has none of {looked}", Outcome.REFUSED, depth)], {})
    place = found_at(home, order, found)
    plan = load_plan(home)
    steps, targets = follow(found, plan, folder, place)
    if targets and not any(step.is_end for step in steps):
        facts = envelope(order, plan, folder, targets, steps)
    return Found([replace(step, depth=depth) for step in [Step(choice(order, found), place), *steps]], facts)


def where(order: Order) -> str:
    """Return where the .qmail files of an order lie."""
    return f"{text(order.home)}/.qmail{text(order.dash)}{text(safe_extension(order.ext))}"


def found_at(home: Home, order: Order, found: dotqmail.DotQmail) -> str:
    if not found.is_default and found.name is not None:
        return f"{text(order.home)}/{text(found.name)}"
    return "control/defaultdelivery" if home.controls.line("defaultdelivery") is not None else "built in"


def choice(order: Order, found: dotqmail.DotQmail) -> str:
    """Return in words which instructions count."""
    if found.name is None:
        return "there is no .qmail file: the default delivery"
    name = text(found.name)
    if found.is_default:
        return f"{name} is empty: the default delivery"
    return f"{name} decides" + (", for all that no other file is for" if found.default_start is not None else "")


def follow(found: dotqmail.DotQmail, plan: Plan, folder: int, place: str) -> tuple[list[Step], list[bytes]]:
    """Return a step for each instruction, and the addresses that it is forwarded to."""
    steps, targets = [], []
    try:
        for number, instruction in numbered(found.text, found.forward_only):
            by = place if found.is_default else f"{place}:{number}"
            steps.append(carried_out(instruction, plan, folder, by))
            if instruction.kind is Kind.FORWARD:
                targets.append(instruction.argument)
    except TemporaryFailure as failure:
        steps.append(Step(failure.text, place, Outcome.DEFERRED))
    return steps or [Step("no instruction: the mail is dropped", place)], targets


def carried_out(instruction: Instruction, plan: Plan, folder: int, by: str) -> Step:
    """Return what one instruction would do, and what would keep it from doing so."""
    kind, argument, _ = instruction
    name = text(argument)
    asked = "" if plan.local_deliver is None else " (plugins of [local] are asked first)"
    if kind is Kind.FORWARD:
        return Step(f"forwards to {name}{asked}", by)
    if kind is Kind.PROGRAM:
        return Step(f"runs the program: {name}{asked}", by)
    trouble = maildir_trouble(argument, folder) if kind is Kind.MAILDIR else mbox_trouble(argument, folder)
    what = f"{'Maildir' if kind is Kind.MAILDIR else 'mbox'} {name}{asked}"
    return Step(f"{what}: {trouble}", by, Outcome.DEFERRED) if trouble else Step(what, by)


def maildir_trouble(path: bytes, home: int) -> str:
    """Return what would keep a message from the Maildir, nothing where all is well."""
    try:
        folder = maildir.open_maildir(path, home)
    except TemporaryFailure as failure:
        return failure.text
    for name in (b"tmp", b"new"):
        if not os.access(name, os.W_OK | os.X_OK, dir_fd=folder):
            return f"{text(name)}/ cannot be written by this user"
    return ""


def mbox_trouble(path: bytes, home: int) -> str:
    """Return what would keep a message from the mbox, nothing where all is well."""
    try:
        os.stat(path, dir_fd=home)
    except FileNotFoundError:
        parent = os.path.dirname(path) or b"."
        return "" if os.access(parent, os.W_OK | os.X_OK, dir_fd=home) else "it is not there and cannot be made"
    except OSError as error:
        return error_text(error.errno)
    return "" if os.access(path, os.W_OK, dir_fd=home) else "it cannot be written by this user"


def envelope(order: Order, plan: Plan, folder: int, targets: list[bytes], steps: list[Step]) -> Facts:
    """Return sender and recipients of what is forwarded, as plugins of [local] want them; nothing, and a step, where that fails."""
    try:
        sender = dotqmail.new_sender(order, folder)
        if sender != order.sender:
            steps.append(Step(f"forwarded with the sender {text(sender)}", f"{where(order)}-owner"))
        changed, recipients = forwarded(plan, "forward", sender, targets, os.environ)
    except TemporaryFailure as failure:
        steps.append(Step(failure.text, "a plugin of [local]", Outcome.DEFERRED))
        return {}
    except PermanentFailure as failure:
        steps.append(Step(failure.text, "a plugin of [local]", Outcome.REFUSED))
        return {}
    if changed != sender:
        steps.append(Step(f"forwarded with the sender {text(changed)}", "a plugin of [local]"))
    return {"sender": text_of(changed), "recipients": [text_of(one) for one in recipients]}
