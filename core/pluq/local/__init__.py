"""qmail-lspawn and qmail-local: from an address to a mailbox or a program."""
