"""Fixtures and stand-ins for our own tests and for those of plugin authors."""
