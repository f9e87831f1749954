"""The relay's part of the ledger's audit: the usage records and the charges say the same."""

from collections.abc import Iterator

from billing import audit
from billing.audit import Finding

_CHECK = "a usage record equals its hold's charge"
_CLOSED = """
    SELECT 'call ' || h.id, 'charged ' || h.charged || ', recorded ' || coalesce(c.cost || '', 'nothing')
    FROM billing_hold h LEFT JOIN relay_calllog c ON c.id = h.id
    WHERE h.state IN ('settled', 'voided') AND (c.id IS NULL OR c.cost <> h.charged)"""
_WITHOUT = """
    SELECT 'call ' || c.id, 'recorded ' || c.cost || ', but its hold is ' || coalesce(h.state, 'missing')
    FROM relay_calllog c LEFT JOIN billing_hold h ON h.id = c.id
    WHERE h.state IN ('held', 'dispatched', 'recovering', 'review') OR (h.id IS NULL AND c.cost <> 0)"""


@audit.register
def usage_records() -> Iterator[Finding]:
    """Each closed hold has its record, of the same amount; no record is there before its hold is closed."""
    yield from audit.query(_CHECK, _CLOSED)
    yield from audit.query(_CHECK, _WITHOUT)
