"""What must be true between invoices and the books: months, documents, their lines and numbers.

All of it is looked at by the full audit only: a document is never changed, so what is whole stays so but for a hand in
the tables. Nobody is frozen for a finding: an invoice that is wrong is the operator's to mend.
"""

from collections.abc import Callable, Iterator

from django.utils.translation import gettext_noop as _

from billing.audit.checks import Found, Rows, Subject, query, register, register_sql
from billing.invoices import issuing, items

_SOLD = ", ".join(f"'{kind}'" for kind in sorted(items.SOLD))
_RETURNED = ", ".join(f"'{kind}'" for kind in sorted(items.RETURNED))
_OWED = ", ".join(f"'{kind.value}'" for kind in sorted(issuing.OWED))

# Each closed month beside the one before it, and what moved in it in the wallet and what its team owes besides.
_MONTHS = """
    WITH months AS (
        SELECT m.*, lag(m.position, 1, 0) OVER w AS position_before, lag(m.carried_out) OVER w AS brought,
               lag(m.ends_at) OVER w AS ended_before
        FROM billing_closedmonth m WHERE {rows:1} WINDOW w AS (PARTITION BY m.account_id ORDER BY m.ends_at)
    )"""
_MOVED = f"""{_MONTHS}, own AS (
        SELECT w.id AS wallet, o.id AS account FROM billing_account w JOIN billing_account o
        ON o.id = w.id OR (o.kind = 'receivable' AND o.team_id = w.team_id AND o.currency = w.currency)
        WHERE w.kind = 'wallet'
    ), moved AS (
        SELECT m.id AS month, -t.amount AS change,
               CASE WHEN t.kind IN ({_RETURNED}, 'reversal') THEN 0 ELSE t.amount END AS owed
        FROM months m JOIN own ON own.wallet = m.account_id JOIN billing_transfer t ON t.debit_id = own.account
            AND t.created_at < m.ends_at AND (m.starts_at IS NULL OR t.created_at >= m.starts_at)
        WHERE NOT EXISTS (SELECT 1 FROM own i WHERE i.wallet = m.account_id AND i.account = t.credit_id)
        UNION ALL
        SELECT m.id, t.amount, CASE WHEN t.kind = 'reversal' AND o.kind IN ({_SOLD}) THEN -t.amount ELSE 0 END
        FROM months m JOIN own ON own.wallet = m.account_id JOIN billing_transfer t ON t.credit_id = own.account
            AND t.kind <> 'charge' AND t.created_at < m.ends_at
            AND (m.starts_at IS NULL OR t.created_at >= m.starts_at)
        LEFT JOIN billing_transfer o ON o.id = t.reverses_id
        WHERE NOT EXISTS (SELECT 1 FROM own i WHERE i.wallet = m.account_id AND i.account = t.debit_id)
    ), sums AS (SELECT month, sum(change) AS change, sum(owed) AS owed FROM moved GROUP BY month)"""

_CHECKS = {
    _("a closed month goes on where the one before it ended"): f"""{_MONTHS}
        SELECT m.account_id, m.month || ' brings ' || m.carried_in || ' from a month that carried '
               || coalesce(m.brought, 0)
        FROM months m
        WHERE CASE WHEN m.outcome = 'began' THEN m.ended_before IS NOT NULL OR m.carried_in <> 0
                   ELSE m.brought IS NULL OR m.brought <> m.carried_in OR m.starts_at <> m.ended_before END""",
    _("a closed month is what the ledger says of it"): f"""{_MOVED}
        SELECT m.account_id, m.month || ': used ' || m.items || ', ledger ' || coalesce(s.owed, 0) || '; position '
               || m.position || ', ledger ' || (m.position_before + coalesce(s.change, 0))
        FROM months m LEFT JOIN sums s ON s.month = m.id
        WHERE m.position <> m.position_before + coalesce(s.change, 0)
            OR (m.outcome <> 'began' AND m.items <> coalesce(s.owed, 0))""",
    _("an invoice says what its closed month says"): """
        SELECT coalesce(i.account_id, m.account_id), coalesce(i.number, 'an invoice that is not there')
               || CASE WHEN m.id IS NULL THEN ' is of no closed month' ELSE ' of ' || m.month || ' is another' END
        FROM billing_invoice i LEFT JOIN billing_closedmonth m ON m.invoice_id = i.id
        WHERE {rows:1} AND i.kind = 'invoice' AND (
            m.id IS NULL OR m.account_id <> i.account_id OR m.month <> i.month OR m.items <> i.items
            OR m.invoiced <> i.amount OR m.carried_in <> i.carried_in OR m.carried_out <> i.carried_out
            OR m.starts_at <> i.starts_at OR m.ends_at <> i.ends_at OR m.zone <> i.zone)""",
    _("an invoice's lines add up to its amount"): f"""
        SELECT account_id, number || ' over ' || amount || ', lines ' || owed || ', numbered to ' || last FROM (
            SELECT i.account_id, i.number, i.amount, max(l.position) AS last, count(l.id) AS known,
                   coalesce(sum(CASE WHEN l.kind IN ({_OWED}) THEN l.amount END), 0) AS owed
            FROM billing_invoice i LEFT JOIN billing_invoiceline l ON l.invoice_id = i.id
            WHERE {{rows:1}} AND i.kind = 'invoice' GROUP BY i.id, i.account_id, i.number, i.amount) AS lines
        WHERE owed <> amount OR last IS NULL OR last <> known""",
    _("a credit note gave back what it says, and no more than its invoice"): """
        SELECT account_id, number || ' over ' || amount || CASE WHEN transfer IS NULL THEN ', no transfer'
               ELSE ', transfer of ' || transfer END || ', with others ' || total || ' of ' || most
        FROM (
            SELECT n.account_id, n.number, n.amount, t.amount AS transfer, i.amount AS most,
                   sum(n.amount) OVER (PARTITION BY n.corrects_id) AS total,
                   t.kind = 'adjustment' AND t.credit_id = n.account_id AND i.account_id = n.account_id AS fits
            FROM billing_invoice n LEFT JOIN billing_transfer t ON t.id = n.transfer_id
            LEFT JOIN billing_invoice i ON i.id = n.corrects_id
            WHERE {rows:1} AND n.kind = 'credit_note') AS notes
        WHERE transfer IS NULL OR transfer <> amount OR most IS NULL OR total > most OR NOT coalesce(fits, false)""",
    _("what was credited of an invoice is its credit notes"): """
        SELECT account_id, number || ' has ' || credited || ' credited, notes ' || notes FROM (
            SELECT i.account_id, i.number, s.credited, s.outstanding, i.amount,
                   coalesce((SELECT sum(n.amount) FROM billing_invoice n WHERE n.corrects_id = i.id), 0) AS notes
            FROM billing_invoice i LEFT JOIN billing_invoicestate s ON s.invoice_id = i.id
            WHERE {rows:1} AND i.kind = 'invoice') AS standing
        WHERE credited IS NULL OR credited <> notes OR credited + outstanding > amount""",
    _("the numbers of a series have no gap"): """
        SELECT NULL, s.series || ' ' || s.year || ': last ' || s.last || ', documents ' || count(i.id)
        FROM billing_invoiceseries s LEFT JOIN billing_invoice i ON i.series = s.series AND i.year = s.year
        WHERE {rows:1} GROUP BY s.id, s.series, s.year, s.last
        HAVING count(i.id) <> s.last OR coalesce(max(i.serial), 0) <> s.last""",
}


def _found_by(sql: str) -> Callable[[Rows], Iterator[Found]]:
    """Runs a statement that selects the account concerned and what is wrong with it."""

    def find(rows: Rows) -> Iterator[Found]:
        for account, said in query(sql, rows):
            yield None, said, account

    return find


for _promise, _statement in _CHECKS.items():
    register(_promise, Subject.BOOKS, deep=True, freezes=False)(_found_by(_statement))


register_sql(
    _("a credit note's transfer has its credit note"),
    Subject.TRANSFER,
    """
    SELECT t.id, 'no document of ' || t.reference, t.credit_id FROM billing_transfer t
    WHERE {rows:t.id} AND t.kind = 'adjustment' AND t.reference LIKE 'credit-note:%%'
      AND NOT EXISTS (SELECT 1 FROM billing_invoice n WHERE n.transfer_id = t.id)""",
    freezes=False,
)
