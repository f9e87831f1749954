"""The management API, `/api/v1/…`: all that the portal does for a team, for programs.

It is called with a management key (`Authorization: Bearer pisces-…`, no models, one team) or from a signed-in session.
Amounts are decimal strings of the ledger's currency, times are UTC in ISO 8601. Lists go by cursors. Its OpenAPI
document is at `/api/v1/schema`.
"""
