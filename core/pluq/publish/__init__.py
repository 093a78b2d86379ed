"""What a site should publish in DNS for a domain, and whether it is there: `pluq dns`.

finding    one record: what to publish, what was found, whether that will do
hosts      MX, addresses, and the names of addresses
spf        SPF: sensible, and does it name us?
policies   DMARC, MTA-STS, TLS reports
survey     all of them for one domain; what plugins need besides
"""
