"""elq [ arg ... ]

Moves new mail from the maildir (MAILDIR) to the mbox (MAIL, by way of MAILTMP) with maildir2mbox, then runs elm with the arguments.
"""

from __future__ import annotations

from pluq.commands.programs import read_mail_with
from pluq.commands.terminal import help_asked


def main() -> int:
    return 0 if help_asked(__doc__) else read_mail_with("elm")
