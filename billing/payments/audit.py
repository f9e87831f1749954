"""What must be true between the books and what moves money into a wallet: payments, redeem codes, adjustments."""

from collections.abc import Iterator

from django.utils.translation import gettext_noop as _

from billing.audit.checks import SIDES, Found, Rows, Subject, query, register, register_sql

_WALLET = "CASE WHEN c.kind = 'wallet' THEN c.id WHEN d.kind = 'wallet' THEN d.id END"

register_sql(
    _("a payment's transfer is of an order that is paid, of its wallet and its amount"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, CASE WHEN p.id IS NULL THEN 'no order ' || t.reference
                      ELSE 'order is ' || p.state || ', ' || p.amount || ' for account ' || p.wallet_id END, {_WALLET}
    FROM billing_transfer t {SIDES} LEFT JOIN billing_payment p ON p.id = {{hold of t}}
    WHERE {{rows:t.id}} AND t.kind = 'payment'
      AND (p.id IS NULL OR p.paid_at IS NULL OR p.amount <> t.amount OR p.wallet_id <> t.credit_id)""",
)
register_sql(
    _("a refund's or dispute's transfers are of one that is known, and of its payment's team"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, CASE WHEN r.id IS NULL THEN 'no ' || t.kind || ' ' || t.reference
                      ELSE t.kind || ' of a ' || r.kind || ' of account ' || p.wallet_id END, {_WALLET}
    FROM billing_transfer t {SIDES}
    LEFT JOIN billing_paymentreversal r ON r.id = {{reversal of t}}
    LEFT JOIN billing_payment p ON p.id = r.payment_id LEFT JOIN billing_account w ON w.id = p.wallet_id
    WHERE {{rows:t.id}} AND t.kind IN ('refund', 'dispute')
      AND (r.id IS NULL OR r.kind <> t.kind OR coalesce(w.team_id, -1) <> coalesce(d.team_id, c.team_id, -2))""",
)


@register(
    _("a payment that is credited has its transfer, and what was taken of it has its own"), Subject.BOOKS, deep=True
)
def _payments(rows: Rows) -> Iterator[Found]:
    """All of them in one walk: `h` is the payment, by the name that the dialect knows a row with such an id."""
    sql = """
        SELECT h.id, h.state, h.amount, h.taken, credited, back, h.wallet_id FROM (
            SELECT h.id, h.state, h.amount, h.taken, h.paid_at, h.wallet_id,
                   coalesce((SELECT sum(t.amount) FROM billing_transfer t
                             WHERE t.kind = 'payment' AND t.reference = {reference of h}), 0) AS credited,
                   coalesce((SELECT sum(CASE WHEN c.kind = 'payments' THEN t.amount ELSE -t.amount END)
                             FROM billing_paymentreversal r JOIN billing_transfer t
                               ON t.kind = r.kind AND {reversal of t} = r.id
                             JOIN billing_account c ON c.id = t.credit_id WHERE r.payment_id = h.id), 0) AS back
            FROM billing_payment h WHERE {rows:1}) AS h
        WHERE credited <> CASE WHEN h.paid_at IS NULL THEN 0 ELSE h.amount END OR back <> h.taken"""
    for key, state, amount, taken, credited, back, wallet in query(sql, rows):
        yield None, f"payment {key} is {state}: {credited} credited of {amount}, {back} taken of {taken}", wallet


register_sql(
    _("a redemption is of a code that was redeemed by it, for its team, at its worth"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, CASE WHEN r.id IS NULL THEN 'no code ' || t.reference
                      ELSE t.kind || ' of a code that is ' || r.state || ', worth ' || b.amount END, {_WALLET}
    FROM billing_transfer t {SIDES}
    LEFT JOIN billing_redeemcode r ON r.transfer_id = t.id LEFT JOIN billing_redeembatch b ON b.id = r.batch_id
    WHERE {{rows:t.id}} AND t.kind NOT IN ('charge', 'draw') AND (t.kind = 'redemption' OR r.id IS NOT NULL)
      AND (t.kind <> 'redemption' OR r.id IS NULL OR b.id IS NULL OR r.state <> 'redeemed' OR b.amount <> t.amount
           OR t.reference <> 'code:' || r.id OR coalesce(r.team_id, -1) <> coalesce(c.team_id, -2))""",
)


@register(_("a code that was redeemed, and an adjustment that was made, have their transfer"), Subject.BOOKS, deep=True)
def _given(rows: Rows) -> Iterator[Found]:
    codes = """
        SELECT 'code ' || r.id || ' is ' || r.state || CASE WHEN t.id IS NULL THEN ', no transfer'
               ELSE ', transfer of kind ' || t.kind END, w.id
        FROM billing_redeemcode r LEFT JOIN billing_transfer t ON t.id = r.transfer_id
        LEFT JOIN billing_account w ON w.team_id = r.team_id AND w.kind = 'wallet'
        WHERE {rows:1} AND (r.state = 'redeemed') <> (coalesce(t.kind, '') = 'redemption')"""
    adjustments = """
        SELECT 'adjustment ' || a.id || ' of ' || a.amount || ' is ' || a.state || CASE WHEN t.id IS NULL
               THEN ', no transfer' ELSE ', ' || t.kind || ' of ' || t.amount END, a.account_id
        FROM billing_adjustment a LEFT JOIN billing_transfer t ON t.id = a.transfer_id
        WHERE {rows:1} AND CASE WHEN a.kind = 'balance' AND a.state = 'done'
              THEN t.id IS NULL OR t.kind <> 'adjustment' OR t.amount <> abs(a.amount)
                   OR a.account_id <> CASE WHEN a.amount > 0 THEN t.credit_id ELSE t.debit_id END
              ELSE a.transfer_id IS NOT NULL END"""
    for sql in (codes, adjustments):
        for said, wallet in query(sql, rows):
            yield None, said, wallet


register_sql(
    _("what an adjustment or a credit note is carried out by is a transfer of that kind"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, t.kind || ' of ' || CASE WHEN a.id IS NULL THEN n.number ELSE 'adjustment ' || a.id END, {_WALLET}
    FROM billing_transfer t {SIDES}
    LEFT JOIN billing_adjustment a ON a.transfer_id = t.id LEFT JOIN billing_invoice n ON n.transfer_id = t.id
    WHERE {{rows:t.id}} AND t.kind NOT IN ('charge', 'draw', 'adjustment')
      AND (a.id IS NOT NULL OR n.id IS NOT NULL)""",
)
