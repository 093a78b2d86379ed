"""What the administrator decided: the qmail home, its users, and control/pluq.toml.

home      the folders of one qmail home and the qmail users
settings  how a plugin declares a setting, and how its value is found
site      control/pluq.toml as values: profiles, roles, plugin tables, each with its line
"""

from pluq.config.home import DEFAULT_HOME, Home, Ids, current_ids, qmail_ids

__all__ = ["DEFAULT_HOME", "Home", "Ids", "current_ids", "qmail_ids"]
