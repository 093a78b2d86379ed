"""Files of the administrator and of the users: control files, cdb, mailboxes."""
