"""Signatures over messages, for DKIM and what is built like it (ARC): forms, tag lists, keys, verifying and signing.

A library for plugins: nothing in the core uses it, and it is imported when a plugin needs it. It stands on `cryptography`, which those
plugins require.

tags      tag=value lists                   canon      canonical forms of header and body
finding   what can be said of a signature   signature  its fields, and what is refused at sight
record    public keys in DNS                verify     sums, look-ups, comparison
keys      private keys                      outgoing   what is signed, and the new field

Source: RFC 6376, RFC 8301, RFC 8463, RFC 8617.
"""
