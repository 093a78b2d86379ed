"""Moving a site from qmail, patched or not: read what is there, say what becomes of it, write the equivalent pluq.toml.

    tree, accounts, rules, words, shell, chain, services    reading, bounded, and never running anything of the site
    survey                                                  all facts, read once
    known, recognise, listeners, profiles, values, items, warn    tables and decisions
    toml, report, write                                     what comes out

Source: the manual pages, sources and usual run scripts of qmail's forks and patches.
"""
