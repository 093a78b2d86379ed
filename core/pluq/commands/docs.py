"""pluq docs: print documentation that is made from the code.

    pluq docs hooks       docs/hooks.md: every hook, its parameters, what happens with the answers
    pluq docs settings    docs/settings.md: every setting of control/pluq.toml, with the plugins that come with pluq

No site is looked at; what one has set is shown by `pluq config show NAME`.
"""

from __future__ import annotations

import sys


def main() -> int:
    import argparse

    from pluq.commands.help_text import HelpText
    from pluq.plan import document

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("page", choices=["hooks", "settings"])
    page = parser.parse_args().page
    sys.stdout.write(document.hooks_page() if page == "hooks" else document.settings_page())
    return 0
