"""What our Received field says of the session: RFC 3848, RFC 6531 section 4.3."""

import pytest

from pluq.hookspecs import Login, Session, Tls
from pluq.smtpd.verbs import protocol_word

TLS = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")
LOGIN = Login(b"joe", "PLAIN")


@pytest.mark.parametrize(
    ("tls", "login", "is_utf8", "word"),
    [
        (None, None, False, b"SMTP"),
        (None, None, True, b"UTF8SMTP"),
        (None, LOGIN, False, b"ESMTPA"),
        (None, LOGIN, True, b"UTF8SMTPA"),
        (TLS, None, False, b"ESMTPS (TLS_AES_256_GCM_SHA384 encrypted)"),
        (TLS, None, True, b"UTF8SMTPS (TLS_AES_256_GCM_SHA384 encrypted)"),
        (TLS, LOGIN, False, b"ESMTPSA (TLS_AES_256_GCM_SHA384 encrypted, authenticated)"),
        (TLS, LOGIN, True, b"UTF8SMTPSA (TLS_AES_256_GCM_SHA384 encrypted, authenticated)"),
    ],
)
def test_received_says_how_the_message_came(tls, login, is_utf8, word):
    assert protocol_word(Session(tls=tls, login=login), is_utf8) == word
