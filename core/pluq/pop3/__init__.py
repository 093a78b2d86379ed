"""qmail-popup and qmail-pop3d: mail to its reader."""
