"""The ledger's invariants, checked against the tables. A finding names the check, the row and both figures."""

from collections.abc import Callable, Iterator

import msgspec
from django.db import connection, transaction

from billing.models import OPEN_STATES, Budget, Hold

OPEN = ", ".join(f"'{state.value}'" for state in OPEN_STATES)


class Finding(msgspec.Struct, frozen=True):
    check: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: {self.detail}"


_QUERIES = {
    "books sum to zero": """
        SELECT 'books', total FROM (
            SELECT
                coalesce((SELECT sum(amount) FROM billing_transfer t JOIN billing_account a ON a.id = t.credit_id), 0) -
                coalesce((SELECT sum(amount) FROM billing_transfer t JOIN billing_account a ON a.id = t.debit_id), 0)
                AS total) AS sums
        WHERE total <> 0""",
    "every transfer has both accounts": """
        SELECT 'transfer ' || t.id, 'account missing' FROM billing_transfer t
        LEFT JOIN billing_account d ON d.id = t.debit_id LEFT JOIN billing_account c ON c.id = t.credit_id
        WHERE d.id IS NULL OR c.id IS NULL OR d.currency <> c.currency OR t.amount <= 0""",
    "every hold has its account and its price": """
        SELECT 'hold ' || CAST(h.id AS text), CASE WHEN a.id IS NULL THEN 'account missing' ELSE 'price missing' END
        FROM billing_hold h LEFT JOIN billing_account a ON a.id = h.account_id
        LEFT JOIN billing_priceversion p ON p.id = h.price_id
        WHERE a.id IS NULL OR p.id IS NULL""",
    "a wallet's balance is the sum of its transfers": """
        SELECT 'account ' || a.id,
               'balance ' || a.balance || ', transfers ' || (coalesce(c.total, 0) - coalesce(d.total, 0))
        FROM billing_account a
        LEFT JOIN (SELECT credit_id, sum(amount) AS total FROM billing_transfer GROUP BY credit_id) c
               ON c.credit_id = a.id
        LEFT JOIN (SELECT debit_id, sum(amount) AS total FROM billing_transfer GROUP BY debit_id) d
               ON d.debit_id = a.id
        WHERE a.kind = 'wallet' AND a.balance <> coalesce(c.total, 0) - coalesce(d.total, 0)""",
    "held is the sum of the open holds": f"""
        SELECT 'account ' || a.id, 'held ' || a.held || ', open holds ' || coalesce(h.total, 0)
        FROM billing_account a
        LEFT JOIN (SELECT account_id AS id, sum(amount) AS total FROM billing_hold WHERE state IN ({OPEN})
                   GROUP BY account_id) h ON h.id = a.id
        WHERE a.held <> coalesce(h.total, 0)""",
    "nothing available below zero": """
        SELECT 'account ' || id, 'available ' || (balance - held + credit_limit) FROM billing_account
        WHERE balance - held + credit_limit < 0 OR held < 0 OR credit_limit < 0""",
    "a settled hold has its charge, a void or open one none": """
        SELECT 'hold ' || h.reference, 'charged ' || coalesce(h.charged, 0) || ', transfers ' || coalesce(t.total, 0)
        FROM (SELECT {hold_reference} AS reference, CASE WHEN state = 'settled' THEN charged ELSE 0 END AS charged
              FROM billing_hold) h
        FULL JOIN (SELECT reference, sum(amount) AS total FROM billing_transfer
                   WHERE kind IN ('charge', 'shortfall') GROUP BY reference) t ON t.reference = h.reference
        WHERE h.reference IS NULL OR coalesce(h.charged, 0) <> coalesce(t.total, 0)""",
    "a charge debits the hold's own wallet": """
        SELECT 'transfer ' || t.id, 'debits account ' || t.debit_id || ', hold is of ' || h.account_id
        FROM billing_transfer t JOIN billing_hold h ON {hold_reference_h} = t.reference
        WHERE t.kind = 'charge' AND t.debit_id <> h.account_id""",
}
# SQLite stores a UUID as 32 hexadecimal digits; transfers name holds in the canonical form.
_HYPHENATED = " || '-' || ".join(
    f"substr({{0}}id, {start}, {size})" for start, size in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
)
_SQLITE_FULL_JOIN = """
        SELECT 'hold ' || h.reference, 'charged ' || h.charged || ', transfers ' || coalesce(t.total, 0)
        FROM (SELECT {hold_reference} AS reference, CASE WHEN state = 'settled' THEN charged ELSE 0 END AS charged
              FROM billing_hold) h
        LEFT JOIN (SELECT reference, sum(amount) AS total FROM billing_transfer
                   WHERE kind IN ('charge', 'shortfall') GROUP BY reference) t ON t.reference = h.reference
        WHERE h.charged <> coalesce(t.total, 0)
        UNION ALL
        SELECT 'transfer ' || t.id, 'names no hold' FROM billing_transfer t
        WHERE t.kind IN ('charge', 'shortfall')
          AND t.reference NOT IN (SELECT {hold_reference} FROM billing_hold)"""

_extra: list[Callable[[], Iterator[Finding]]] = []


def register(check: Callable[[], Iterator[Finding]]) -> Callable[[], Iterator[Finding]]:
    """Adds a check of an app above billing, such as usage records against charges."""
    _extra.append(check)
    return check


def hold_reference(table: str = "") -> str:
    """SQL for a hold's id as transfers refer to it."""
    prefix = f"{table}." if table else ""
    return f"{prefix}id::text" if connection.vendor == "postgresql" else _HYPHENATED.format(prefix)


def run() -> list[Finding]:
    """Every violated invariant, read in one snapshot; an empty list says that the books are whole."""
    outermost = not connection.in_atomic_block  # inside a transaction its own snapshot counts
    with transaction.atomic():
        if outermost and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        findings = [*_sql_findings(), *_budget_findings()]
        for check in _extra:
            findings.extend(check())
    return findings


def query(check: str, sql: str) -> Iterator[Finding]:
    """Runs SQL that selects a subject and a detail for each violation."""
    sql = sql.replace("{hold_reference_h}", hold_reference("h")).replace("{hold_reference}", hold_reference())
    with connection.cursor() as cursor:
        cursor.execute(sql)
        for subject, detail in cursor.fetchall():
            yield Finding(check, str(subject), str(detail))


def _sql_findings() -> Iterator[Finding]:
    for check, sql in _QUERIES.items():
        if "FULL JOIN" in sql and connection.vendor == "sqlite":
            sql = _SQLITE_FULL_JOIN  # FULL JOIN came to SQLite with 3.39 only
        yield from query(check, sql)


def _budget_findings() -> Iterator[Finding]:
    """A budget's counters against the holds that name it: spent in its current window, held by open ones."""
    expected: dict[tuple[int, int], int] = {}
    held: dict[int, int] = {}
    rows = Hold.objects.exclude(budgets=[]).values_list("state", "amount", "charged", "budgets")
    for state, amount, charged, budgets in rows.iterator():
        for number, start in budgets:
            if state in OPEN_STATES:
                held[number] = held.get(number, 0) + amount
            elif charged:
                expected[number, start] = expected.get((number, start), 0) + charged
    for budget in Budget.objects.all():
        spent = expected.get((budget.pk, int(budget.starts_at.timestamp())), 0)
        if (budget.used, budget.held) != (spent, held.get(budget.pk, 0)):
            yield Finding(
                "a budget equals what was spent in its window",
                f"budget {budget.pk}",
                f"used {budget.used}, holds {spent}; held {budget.held}, open holds {held.get(budget.pk, 0)}",
            )
