"""POP3 over a Maildir: the greeting and login of qmail-popup, the mailbox of qmail-pop3d.

`authorization` and `transaction` are the two states of RFC 1939 as values: a command in, bytes out. `maildrop` is the Maildir,
`dialogue` moves lines between a session and two descriptors, `login` starts a checkpassword program.
"""
