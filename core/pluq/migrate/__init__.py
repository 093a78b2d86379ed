"""Moving a site from qmail, patched or not: read what is there, say what becomes of it, write the equivalent pluq.toml.

    tree accounts rules                                    the site's files, bounded, and nothing outside of its root
    syntax words builtins filters shell chain services     its scripts, interpreted and never run
    survey                                                 all facts, read once
    known recognise listener needs profiles                what it is, and the profiles that keep it so
    values fates items                                     what becomes of each file and variable
    case warn warn_*                                       what the administrator should know
    toml report write                                      what comes out

Source: the manual pages, sources and usual run scripts of qmail's forks and patches.
"""
