"""What tcpserver does for the programs of qmail: who may connect, how many at a time, what the log says, and the processes.

`gate` is one profile in one worker, `worker` the event loop that serves them and ends in order, `workers` several of these processes.
A protocol (smtpd, qmtpd, pop3) brings a Gate of its own and the connections behind it; `stream` is one that is read like a file.
"""
