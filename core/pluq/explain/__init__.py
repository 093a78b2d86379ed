"""What would happen to mail for an address, and why: the programs' own decisions, asked one after the other, and nothing accepted.

    connection  rules, RELAYCLIENT           the profile's tcprules file
    session     banner to RCPT, all plugins  the real session with a driver that sends nowhere (rehearsal)
    queue       plugins of [queue]
    routing     locals, virtualdomains...    send.rewrite
    mailbox     users, .qmail, what it says  local.lookup, local.dotqmail, as the recipient
    elsewhere   smtproutes, MX, TLS, DKIM    remote.deliver, as qmailr

Each step has a sentence and what made the decision: a control file with its line, or a plugin with its hook. Where root asks, every stage
runs in a child that has become the user who decides in the real system, so that what that user may not read shows; no plugin code
runs as root.

step       the values            places     which line of which file
children   as whom               show       text and JSON
"""
