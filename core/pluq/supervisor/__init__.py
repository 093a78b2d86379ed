"""qmail-start and what supervise does: processes and their privileges."""
