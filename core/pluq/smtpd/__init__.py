"""qmail-smtpd: the SMTP session and its resident server."""
