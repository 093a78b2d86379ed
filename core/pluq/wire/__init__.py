"""Byte protocols: bytes in, values out, no I/O."""
