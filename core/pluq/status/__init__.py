"""The status role: figures for Prometheus, health for monitors, a page for people. Off unless [status] says `listen`.

    census     a role of its own, as qmails: counts the queue now and then, and leaves what it found in shared memory
    snapshot   what is so now: the figures of all processes, the roles, the disk, the census
    history    what happened minute by minute, as long as this role lives
    health     which of it is wrong, and why
    page       all of it as HTML, with charts
    server     HTTP on one socket, read only, bounded

The role runs as a user that owns nothing, reads no folder of the queue, and answers strangers' HTTP; the census, which may read the
queue, hears nobody. Both may die: no message waits for them.
"""
