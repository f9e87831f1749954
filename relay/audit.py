"""The books against the usage records: every call is recorded once, and costs what was charged for it."""

from collections.abc import Iterator

from billing import audit
from billing.audit import Finding

_CHECKS = {
    "a resolved hold has its usage record, with the same cost": """
        SELECT 'call ' || CAST(h.id AS text),
               CASE WHEN c.id IS NULL THEN 'no usage record'
                    ELSE 'cost ' || c.cost || ', charged ' || h.charged END
        FROM billing_hold h LEFT JOIN relay_calllog c ON c.id = h.id
        WHERE h.state IN ('settled', 'voided') AND (c.id IS NULL OR c.cost <> h.charged)""",
    "an open hold has no usage record yet": """
        SELECT 'call ' || CAST(h.id AS text), 'recorded as ' || c.state || ', hold is ' || h.state
        FROM billing_hold h JOIN relay_calllog c ON c.id = h.id
        WHERE h.state NOT IN ('settled', 'voided')""",
    "a usage record says what became of its hold": """
        SELECT 'call ' || CAST(c.id AS text), 'recorded as ' || c.state || ', hold is ' || h.state
        FROM relay_calllog c JOIN billing_hold h ON c.id = h.id
        WHERE (c.state = 'settled' AND h.state = 'voided') OR c.state = 'refused'""",
    "a call that costs has its hold": """
        SELECT 'call ' || CAST(c.id AS text), 'cost ' || c.cost || ', no hold'
        FROM relay_calllog c LEFT JOIN billing_hold h ON c.id = h.id
        WHERE h.id IS NULL AND (c.cost > 0 OR c.state = 'settled')""",
}


@audit.register
def usage_records_equal_charges() -> Iterator[Finding]:
    for check, sql in _CHECKS.items():
        yield from audit.query(check, sql)
