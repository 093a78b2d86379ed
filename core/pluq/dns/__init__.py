"""DNS: an asynchronous stub resolver with bounds on everything, as much of it as mail needs.

    resolver = Resolver.from_system()
    for mx in await resolver.mx(b"example.org"): ...

Three outcomes: records; `NoRecords`, a permanent failure (the name does not exist, or has no record of that type); and
`TemporaryFailure` (no server answered in time, or all of them said that they could not). `lookup` gives the first two as an
`Answer` for callers that need more.

Names are always absolute: no search list, no /etc/hosts, no ndots; the domain of a message means itself. Servers are those of
/etc/resolv.conf, or of PLUQ_DNS_SERVER ("127.0.0.1:5353", several with commas). The codec is dnspython's, but for plain A and TXT
answers; the sockets are ours, because one shared UDP socket costs half of dnspython's own resolver.

codec      a query out, an answer in: records, aliases followed, times to live
transport  UDP with checks of address, number and question; TCP for answers that do not fit
resolver   servers, tries, cache, budgets
"""

from __future__ import annotations

from pluq.dns.codec import Answer, Mx, NoRecords, Status, Tlsa
from pluq.dns.resolver import Budget, Resolver, lookup_now

__all__ = ["Answer", "Budget", "Mx", "NoRecords", "Resolver", "Status", "Tlsa", "lookup_now"]
