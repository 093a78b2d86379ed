"""srs: what is rewritten and what is not, what comes back and from whom, and that it is what others make."""

import os
import shutil
import subprocess
import sys
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Defer, Delivery, Disconnect, Draft, Recipient, Reject, Session, Transaction
from pluq.config import Home
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq_srs import BOUNCES_ONLY, GUESSING, Srs
from pluq_srs.rewriter import BAD_HASH, NOT_SRS, OUT_OF_DATE, SHORT_HASH, Rewriter, SrsError
from pluq_srs.srsfilter import readdressed

NOW = 1_800_000_000
DAY = 86400
SENDER = b"joe@src.example"


def rewriter(now: Any = NOW, secrets: Any = (b"secret",), domain: Any = b"srs.example", **settings: Any) -> Any:
    return Rewriter(domain, secrets, clock=lambda: now, **settings)


@pytest.fixture
def home(tmp_path: Any) -> Any:
    (tmp_path / "control").mkdir()
    (tmp_path / "control/rcpthosts").write_text("example.org\nsrs.example\n")
    return Home(str(tmp_path))


def plugin(home: Any, role: Any = "local", **settings: Any) -> Any:
    return make_plugin(Srs, home=home, role=role, **{"domain": "srs.example", "secrets": ("secret",), **settings})


def forward(one: Any, sender: Any, channel: Any = "forward", environment: Any = None) -> Any:
    delivery = Delivery(channel, 0, sender, [b"bob@x.example"])
    verdict = one.forward_envelope(delivery, environment or {})
    return verdict or delivery.sender


# -- addresses


def mail_srs(script: Any, *words: Any) -> Any:
    code = "use Mail::SRS; my $s = new Mail::SRS(Secret => ['secret'], MaxAge => 21, HashLength => 4, HashMin => 4);"
    done = subprocess.run(["perl", "-e", code + script, *words], capture_output=True, text=True)
    if "locate Mail/SRS.pm" in done.stderr:
        pytest.skip("Debian's libmail-srs-perl is not installed")
    return done.stdout.strip()


@pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed")
@pytest.mark.parametrize(
    "sender",
    [
        "joe@src.example",
        "A=b+c@Src.Example",
        "SRS0=HHHH=TT=orig.example=joe@other.example",
        "SRS0+HHHH=TT=orig.example=joe@other.example",
        "SRS1=HHHH=first.example==HHHH=TT=orig.example=joe@other.example",
    ],
)
def test_mail_srs_makes_the_same_address_and_takes_ours(sender: Any) -> None:
    ours = Rewriter(b"srs.example", [b"secret"])
    theirs = mail_srs("print $s->forward($ARGV[0], 'srs.example')", sender)
    assert ours.forward(sender.encode()).decode() == theirs
    assert ours.reverse(theirs.encode()).decode() == mail_srs("print $s->reverse($ARGV[0])", theirs)


@pytest.mark.parametrize("separator", ["=", "-", "+"])
@pytest.mark.parametrize("sender", [SENDER, b"a=b@c.example", b"J\xc3\x9crgen\xff@src.example"])
def test_what_is_rewritten_comes_back(sender: Any, separator: Any) -> None:
    address = rewriter(separator=separator).forward(sender)
    assert address.startswith(b"SRS0" + separator.encode())
    assert rewriter().reverse(address) == sender
    assert rewriter().reverse(address.lower()) == sender.lower()


@given(local=st.binary(min_size=1, max_size=64), host=st.from_regex(rb"[a-z0-9.]{1,60}", fullmatch=True))
def test_any_address_comes_back_or_is_refused_in_words(local: Any, host: Any) -> None:
    one = rewriter()
    try:
        back = one.reverse(one.forward(local + b"@" + host))
    except SrsError as error:
        assert error.text in (BAD_HASH, NOT_SRS, OUT_OF_DATE, SHORT_HASH)
    else:
        assert back == local + b"@" + host or local[:4].upper() in (b"SRS0", b"SRS1")


@given(address=st.binary(max_size=200))
def test_no_strangers_address_is_brought_back(address: Any) -> None:
    with pytest.raises(SrsError):
        rewriter().reverse(address + b"@srs.example")


def test_a_second_hop_makes_srs1_and_a_third_keeps_the_first() -> None:
    first = rewriter(domain=b"first.example").forward(SENDER)
    second = rewriter(domain=b"second.example", secrets=[b"other"]).forward(first)
    third = rewriter(domain=b"third.example", secrets=[b"third"]).forward(second)
    assert second.startswith(b"SRS1=") and third.startswith(b"SRS1=") and len(third) == len(second) - 1
    assert rewriter(secrets=[b"third"]).reverse(third) == first
    assert rewriter(domain=b"first.example").reverse(first) == SENDER


@pytest.mark.parametrize(("age", "good"), [(0, True), (7, True), (8, False), (900, False), (-1, False)])
def test_an_address_is_good_for_maxage_days(age: Any, good: Any) -> None:
    address = rewriter(NOW - age * DAY).forward(SENDER)
    if good:
        assert rewriter(maxage=7).reverse(address) == SENDER
    else:
        with pytest.raises(SrsError, match=OUT_OF_DATE):
            rewriter(maxage=7).reverse(address)


def test_old_secrets_are_good_for_bounces_and_the_first_signs() -> None:
    assert rewriter(secrets=[b"new", b"secret"]).reverse(rewriter().forward(SENDER)) == SENDER
    assert rewriter(secrets=[b"new", b"secret"]).forward(SENDER) == rewriter(secrets=[b"new"]).forward(SENDER)


def test_a_short_hash_is_no_hash() -> None:
    """One letter has 64 values; whoever may choose the length of the hash can guess it."""
    address = rewriter().forward(SENDER)
    short = address.replace(address.split(b"=")[1], address.split(b"=")[1][:1], 1)
    with pytest.raises(SrsError, match=SHORT_HASH):
        rewriter().reverse(short)


@pytest.mark.parametrize("number", [0, -1])
def test_numbers_below_one_mean_the_defaults(number: Any) -> None:
    one = rewriter(maxage=number, hashlength=number, hashmin=number)
    assert one.forward(SENDER) == rewriter().forward(SENDER)
    assert one.reverse(rewriter(NOW - 21 * DAY).forward(SENDER)) == SENDER
    with pytest.raises(SrsError, match=SHORT_HASH):
        one.reverse(rewriter(hashlength=3).forward(SENDER))


def test_the_first_letter_of_the_separator_counts() -> None:
    assert rewriter(separator="+x").forward(SENDER).startswith(b"SRS0+")
    assert rewriter(separator="x+").forward(SENDER).startswith(b"SRS0=")


@pytest.mark.parametrize("hashlength", [1, 4, 8, 27, 28, 1000])
def test_every_hash_length_makes_addresses_that_come_back(hashlength: Any) -> None:
    one = rewriter(hashlength=hashlength)
    address = one.forward(SENDER)
    assert len(address.split(b"=")[1]) == min(hashlength, 27)
    assert one.reverse(address) == SENDER


@pytest.mark.parametrize("change", [b"x=", b"other.example=", b"=bob@"])
def test_a_changed_address_is_refused(change: Any) -> None:
    parts = {b"x=": b"joe", b"other.example=": b"src.example=", b"=bob@": b"=joe@"}
    address = rewriter().forward(SENDER).replace(parts[change], change)
    with pytest.raises(SrsError, match=BAD_HASH):
        rewriter().reverse(address)


# -- rewriting


@pytest.mark.parametrize(
    "sender",
    [
        b"",
        b"#@[]",
        b"joe",
        b"joe@example.org",
        b"JOE@Example.ORG",
        b"list-owner-@elsewhere.example-@[]",
        b"x@srs.example",
    ],
)
def test_a_sender_that_need_not_be_rewritten_stays(home: Any, sender: Any) -> None:
    assert forward(plugin(home), sender) == sender


def test_a_strangers_sender_is_rewritten_where_mail_is_sent_on(home: Any) -> None:
    assert forward(plugin(home), SENDER).endswith(b"=src.example=joe@srs.example")
    assert forward(plugin(home, domain=""), SENDER) == SENDER
    assert forward(plugin(home, alwaysrewrite=True), b"joe@example.org").startswith(b"SRS0=")


@pytest.mark.parametrize(("text", "always"), [("1\n", True), ("2", True), ("0", False), ("", False), ("yes\n", False)])
def test_srs_alwaysrewrite_is_a_number(home: Any, text: str, always: bool) -> None:
    from pluq.config.settings import resolve
    from pluq_srs import Settings

    with open(home.control("srs_alwaysrewrite"), "w") as file:
        file.write(text)
    assert resolve(Settings, home.controls, []).settings.alwaysrewrite is always


def test_without_rcpthosts_all_senders_are_ours(home: Any) -> None:
    os.unlink(home.control("rcpthosts"))
    assert forward(plugin(home), SENDER) == SENDER


@pytest.mark.parametrize(
    ("environment", "rewritten"),
    [
        ({}, False),
        ({"EXT": "x"}, False),
        ({"EXT": "", "HOST": "h"}, True),
        ({"QMAILINJECT_FORCE_SRS": ""}, True),
        ({"QMAILINJECT_FORCE_SRS": "", "QMAILINJECT_SKIP_SRS": ""}, False),
    ],
)
def test_qmail_inject_rewrites_where_it_sends_somebody_elses_mail_on(
    home: Any, environment: Any, rewritten: Any
) -> None:
    assert (forward(plugin(home), SENDER, "inject", environment) != SENDER) is rewritten


def test_without_a_secret_the_delivery_is_put_off(home: Any) -> None:
    assert forward(plugin(home, secrets=()), SENDER) == Defer(451, "4.3.0", "SRS: No secrets in SRS configuration.")


async def test_mail_to_other_hosts_can_be_rewritten(home: Any) -> None:
    delivery = Delivery("remote", 1, SENDER, [b"bob@x.example"])
    plan = plan_of(plugin(home, "remote"))
    assert plan.remote_envelope is not None
    await plan.remote_envelope(delivery=delivery)
    assert delivery.sender.startswith(b"SRS0=")


# -- bringing back


def rcpt(one: Any, address: Any, sender: Any = b"", allowed: Any = True, session: Any = None) -> Any:
    recipient = Recipient(address, allowed)
    verdict = one.smtp_rcpt(session or Session(), Transaction(sender), recipient)
    return verdict or recipient.address


def test_a_bounce_is_brought_back_at_rcpt(home: Any) -> None:
    one = plugin(home, "smtpd")
    address = one.rewriter.forward(SENDER)
    assert rcpt(one, address) == SENDER
    assert rcpt(one, address.replace(b"@srs.example", b"@SRS.Example")) == SENDER
    assert rcpt(one, address, sender=b"x@y") == BOUNCES_ONLY
    assert rcpt(one, address, allowed=False) == address
    for other in (b"joe@srs.example", address.replace(b"@srs.", b"@other.")):
        assert rcpt(one, other) == other


def test_who_guesses_is_turned_away(home: Any) -> None:
    session, one = Session(), plugin(home, "smtpd")
    answers = [rcpt(one, b"SRS0=AAAA=TT=src.example=joe@srs.example", session=session) for _ in range(3)]
    assert answers == [Reject(550, "5.1.1", f"SRS: {BAD_HASH}")] * 2 + [GUESSING]
    assert isinstance(GUESSING, Disconnect)


def test_trouble_of_ours_is_temporary_at_rcpt(home: Any) -> None:
    verdict = rcpt(plugin(home, "smtpd", secrets=()), b"SRS0=AAAA=TT=src.example=joe@srs.example")
    assert isinstance(verdict, Defer)


def test_a_bounce_made_here_goes_to_the_original_sender(home: Any) -> None:
    lines = []
    one = plugin(home, "send")
    one.context = make_plugin(Srs, home=home, role="send", log=lines.append).context
    chain = plan_of(one).send_bounce
    draft = Draft(1, one.rewriter.forward(SENDER))
    assert chain(draft=draft) is None and draft.sender == SENDER
    for sender in (b"", b"joe@srs.example", SENDER):
        draft = Draft(1, sender)
        assert chain(draft=draft) is None and draft.sender == sender
    wrong = Draft(1, b"SRS0=AAAA=TT=src.example=joe@srs.example")
    assert chain(draft=wrong) is None and wrong.sender.startswith(b"SRS0")
    assert lines == [f"srs: SRS: {BAD_HASH}"]
    assert isinstance(plan_of(plugin(home, "send", secrets=())).send_bounce(draft=wrong), Defer)


def test_check_says_what_is_missing(home: Any) -> None:
    assert plugin(home, "smtpd").check() == []
    assert len(plugin(home, secrets=()).check()) == 1
    assert len(plugin(home, "smtpd", domain="other.example").check()) == 1
    assert plugin(home, domain="", secrets=()).check() == []


# -- srsfilter


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (b"A: 1\nTo: x\n y\nB: 2\n\nTo: body\n", b"A: 1\nTo: joe@src.example\nB: 2\n\nTo: body\n"),
        (b"to: x\nA: 1\nTO : y\n\n", b"To: joe@src.example\nA: 1\n\n"),
        (b"A: 1\n\nbody", b"A: 1\nTo: joe@src.example\n\nbody"),
        (b"\nbody\n", b"To: joe@src.example\n\nbody\n"),
        (b"To: x", b"To: joe@src.example\n"),
        (b"A: 1\nno field\nTo: x\n\nbody\n", b"A: 1\nTo: joe@src.example\nno field\nTo: x\n\nbody\n"),
        (b"", b"To: joe@src.example\n"),
    ],
)
def test_the_to_field_names_the_recipient(text: Any, changed: Any) -> None:
    assert readdressed(text, SENDER) == changed


def srsfilter(home: Any, **environment: Any) -> Any:
    code = "import sys; from pluq_srs.srsfilter import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code],
        input=b"To: x\n\nhi\n",
        env={"PATH": os.environ["PATH"], "PLUQ_HOME": home.path, "QMAILQUEUE": f"{home.path}/queue", **environment},
        capture_output=True,
        timeout=60,
    )


def test_srsfilter_sends_a_bounce_on_and_refuses_everything_else(home: Any) -> None:
    with open(f"{home.path}/queue", "w") as file:
        file.write("#!/bin/sh\ncat > message\ncat <&1 > envelope\n")
    os.chmod(file.name, 0o755)
    for name in ("srs_domain", "srs_secrets"):
        with open(home.control(name), "w") as file:
            file.write("srs.example\n" if name == "srs_domain" else "secret\n")
    local = Rewriter(b"srs.example", [b"secret"]).forward(SENDER).decode().partition("@")[0]
    done = srsfilter(home, SENDER="", EXT2=local, HOST="srs.example", DTLINE="Delivered-To: me\n")
    assert done.returncode == 0, done.stderr
    with open(f"{home.path}/message") as message, open(f"{home.path}/envelope", "rb") as envelope:
        assert message.read() == "Delivered-To: me\nTo: joe@src.example\n\nhi\n"
        assert envelope.read() == b"F\0Tjoe@src.example\0\0"
    for environment in ({"SENDER": "x@y"}, {"EXT2": "joe"}, {"EXT2": local[:-1]}):
        done = srsfilter(home, **{"SENDER": "", "EXT2": local, "HOST": "srs.example", **environment})
        assert done.returncode == 100 and done.stderr.startswith(b"srsfilter: fatal: ")
    os.unlink(home.control("srs_secrets"))
    assert srsfilter(home, SENDER="", EXT2=local, HOST="srs.example").returncode == 111
    os.unlink(home.control("srs_domain"))
    done = srsfilter(home, SENDER="", EXT2=local, HOST="srs.example")
    assert (done.returncode, done.stderr) == (100, b"srsfilter: fatal: unable to rewrite envelope\n")


class TestConformance(Conformance):
    plugin = Srs
    settings: ClassVar = {"domain": "example.org", "secrets": ("secret",)}
