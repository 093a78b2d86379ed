"""pluq: qmail, byte for byte, with every modern feature as an optional plugin."""
