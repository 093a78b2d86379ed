"""qmail-rspawn and qmail-remote: from an address to the next hop."""
