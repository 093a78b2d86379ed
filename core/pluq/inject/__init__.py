"""qmail-inject: complete a message and hand it to the queue."""
