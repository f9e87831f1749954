"""What must be true of the ledger's own tables, as checks that find where it is not."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from billing import windows
from billing.audit.checks import ALL, OPEN, SIDES, Found, Rows, Subject, query, register, register_sql
from billing.models import Account, AccountKind, Budget, BudgetAction, BudgetChange, BudgetOwner, Plan, Window

LATE = 120  # seconds after its lease's end in which a hold must have been resolved
UNLIKE = 1800  # seconds by which an open hold's time may differ from that in its id
SET_BACK = dt.timedelta(minutes=30)  # by which a clock may have been, between a plan's filling and its end
APART = 60  # seconds by which a charge's time may differ from its hold's end: databases without one clock for both
BUDGET = _("a budget equals what was spent in its window")
BALANCE = _("a wallet's balance is the sum of its transfers")
COUNTED = _("what was counted in a wallet before has not changed")

# What refunds and disputes take from a team, and give back where they fail.
_BOTH_WAYS = {("wallet", "payments"), ("receivable", "payments"), ("payments", "wallet"), ("payments", "receivable")}
# From which kinds of account to which a transfer of each kind goes.
ROUTES = {
    "charge": {("wallet", "revenue")},
    "shortfall": {("receivable", "revenue")},
    "credit": {("payments", "wallet"), ("payments", "receivable")},
    "payment": {("payments", "wallet")},
    "redemption": {("promo", "wallet")},
    "refund": _BOTH_WAYS,
    "dispute": _BOTH_WAYS,
    "purchase": {("wallet", "plans")},
    "grant": {("plans", "plan")},
    "draw": {("plan", "revenue")},
    "expiry": {("plan", "plans")},
    "adjustment": {
        ("promo", "wallet"),
        ("wallet", "promo"),
        ("promo", "receivable"),
        ("receivable", "promo"),
        ("wallet", "receivable"),
    },
    # A reversal goes the way back of what it reverses; that is its own check.
}
_ROUTES = " OR ".join(
    f"(t.kind = '{kind}' AND d.kind = '{source}' AND c.kind = '{target}')"
    for kind, routes in ROUTES.items()
    for source, target in sorted(routes)
)
# A kind that this release does not know may be of the next one, whose servers run already: nobody is frozen for it.
_KNOWN = f"t.kind IN ({', '.join(repr(kind) for kind in ROUTES)})"
# The wallet, or the plan, that a transfer concerns.
_COUNTED = "('wallet', 'plan')"
_WALLET = f"CASE WHEN d.kind IN {_COUNTED} THEN d.id WHEN c.kind IN {_COUNTED} THEN c.id END"
# A wallet is never credited by a charge, so the index of credits that are none finds all.
_SUM = """
    coalesce((SELECT sum(t.amount) FROM billing_transfer t WHERE t.credit_id = a.id AND t.kind <> 'charge'{until}), 0) -
    coalesce((SELECT sum(t.amount) FROM billing_transfer t WHERE t.debit_id = a.id{until}), 0)"""

# ---- accounts -------------------------------------------------------------------------------------------------------

register_sql(
    BALANCE,
    Subject.ACCOUNT,
    f"""
    SELECT id, 'balance ' || balance || ', transfers ' || total, id FROM (
        SELECT a.id, a.balance, {_SUM.format(until="")} AS total
        FROM billing_account a WHERE {{rows:a.id}} AND a.kind IN {_COUNTED}) AS sums
    WHERE balance <> total""",
    deep=True,
)
register_sql(
    COUNTED,
    Subject.ACCOUNT,
    f"""
    SELECT id, 'up to transfer ' || last || ' there was ' || counted || ', there is ' || total, id FROM (
        SELECT a.id, m.transfer AS last, m.total AS counted,
               {_SUM.format(until=" AND t.id <= m.transfer")} AS total
        FROM billing_account a JOIN billing_auditmark m ON m.subject = 'account' AND m.number = a.id
        WHERE {{rows:a.id}} AND a.kind IN {_COUNTED}) AS sums
    WHERE counted <> total""",
    deep=True,
)


def counted(account: int, until: int) -> int:
    """What the transfers of an account came to, up to and with the one with this id."""
    total = f"SELECT {_SUM.format(until=f' AND t.id <= {until:d}')} FROM billing_account a WHERE {{rows:a.id}}"
    return next((int(total) for (total,) in query(total, Rows(keys=(account,)))), 0)


register_sql(
    _("held is the sum of the open holds"),
    Subject.ACCOUNT,
    """
    SELECT a.id, 'held ' || a.held || ', open holds ' || coalesce(h.total, 0), a.id
    FROM billing_account a
    LEFT JOIN (SELECT account_id, sum(amount) AS total FROM (
                   SELECT h.account_id, h.amount FROM billing_hold h WHERE h.resolved_at IS NULL
                   UNION ALL SELECT h.account_id, -{amount of part} FROM billing_hold h, {parts of h}
                       WHERE h.resolved_at IS NULL
                   UNION ALL SELECT {plan of part}, {amount of part} FROM billing_hold h, {parts of h}
                       WHERE h.resolved_at IS NULL) AS reserved
               GROUP BY account_id) h ON h.account_id = a.id
    WHERE {rows:a.id} AND a.held <> coalesce(h.total, 0)""",
)
register_sql(
    _("nothing available below zero"),
    Subject.ACCOUNT,
    """
    SELECT a.id, 'available ' || (a.balance - a.held + a.credit_limit), a.id FROM billing_account a
    WHERE {rows:a.id} AND (a.balance - a.held + a.credit_limit < 0 OR a.held < 0 OR a.credit_limit < 0)""",
)
register_sql(
    _("only wallets and plans keep totals, and each is a team's"),
    Subject.ACCOUNT,
    """
    SELECT a.id, a.kind || ' of ' || CASE WHEN a.team_id IS NULL THEN 'nobody' ELSE 'team ' || a.team_id END
                 || ': balance ' || a.balance || ', held ' || a.held || ', credit limit ' || a.credit_limit, a.id
    FROM billing_account a
    WHERE {rows:a.id} AND (
        (a.kind NOT IN ('wallet', 'plan') AND (a.balance <> 0 OR a.held <> 0))
        OR (a.kind <> 'wallet' AND a.credit_limit <> 0) OR (a.kind = 'plan') <> (a.ends_at IS NOT NULL)
        OR (a.kind IN ('wallet', 'plan', 'receivable') AND a.team_id IS NULL)
        OR (a.kind IN ('revenue', 'payments', 'promo', 'provider_cost', 'plans') AND a.team_id IS NOT NULL)
        OR a.kind NOT IN ('wallet', 'plan', 'receivable', 'revenue', 'payments', 'promo', 'provider_cost', 'plans'))""",
)
register_sql(
    _("a team's wallet has its receivable account, and the other way round"),
    Subject.ACCOUNT,
    """
    SELECT a.id, a.kind || ' alone in ' || a.currency, a.id FROM billing_account a
    LEFT JOIN billing_account o ON o.team_id = a.team_id AND o.currency = a.currency AND o.id <> a.id
        AND o.kind = CASE WHEN a.kind = 'wallet' THEN 'receivable' ELSE 'wallet' END
    WHERE {rows:a.id} AND a.kind IN ('wallet', 'receivable') AND o.id IS NULL""",
)
register_sql(
    _("an account is there once"),
    Subject.ACCOUNT,
    """
    SELECT a.id, a.kind || ' as account ' || o.id, a.id FROM billing_account a
    JOIN billing_account o ON o.kind = a.kind AND o.currency = a.currency AND o.id <> a.id
        AND coalesce(o.team_id, 0) = coalesce(a.team_id, 0)
    WHERE {rows:a.id} AND a.kind <> 'plan'""",
)
register_sql(
    _("every account is in the ledger's currency"),
    Subject.ACCOUNT,
    """
    SELECT a.id, a.currency, a.id FROM billing_account a WHERE {rows:a.id} AND a.currency <> %s AND (
        EXISTS (SELECT 1 FROM billing_transfer t WHERE t.debit_id = a.id)
        OR EXISTS (SELECT 1 FROM billing_transfer t WHERE t.credit_id = a.id))""",
    lambda: settings.CURRENCY,
    freezes=False,  # a setting that was changed stops nobody
)
register_sql(
    _("a receivable account was paid no more than it was owed"),
    Subject.ACCOUNT,
    """
    SELECT id, 'owed ' || owed || ', paid ' || paid, wallet FROM (
        SELECT a.id,
               coalesce((SELECT sum(t.amount) FROM billing_transfer t WHERE t.debit_id = a.id), 0) AS owed,
               coalesce((SELECT sum(t.amount) FROM billing_transfer t
                         WHERE t.credit_id = a.id AND t.kind <> 'charge'), 0) AS paid,
               (SELECT w.id FROM billing_account w WHERE w.team_id = a.team_id AND w.kind = 'wallet'
                AND w.currency = a.currency) AS wallet
        FROM billing_account a WHERE {rows:a.id} AND a.kind = 'receivable') AS sums
    WHERE paid > owed""",
    deep=True,
)


@register(_("a plan was given one filling at most for each of its windows"), Subject.ACCOUNT, deep=True, freezes=False)
def _fillings(rows: Rows) -> Iterator[Found]:
    """Nobody is stopped for it: it was ours to count. Windows of plans from before they had a time zone of their own
    are counted in the one that their team had then, which may not be the one that they were filled in."""
    sql = """
        SELECT t.credit_id, sum(t.amount) FROM billing_transfer t JOIN billing_plan p ON p.account_id = t.credit_id
        WHERE {rows:t.credit_id} AND t.kind = 'grant' GROUP BY t.credit_id"""
    given: dict[int, int] = dict(query(sql, rows))
    condition, parameters = rows.condition("account_id")
    plans = Plan.objects.raw(f"SELECT * FROM billing_plan WHERE {condition}", parameters)
    for plan in plans.iterator():
        # The window that begins with the next filling has not been filled for.
        until = plan.fill_at - dt.timedelta(microseconds=1) if plan.fill_at else plan.ends_at + SET_BACK
        sold = plan.value * (1 + windows.turns(plan.refill, plan.starts_at, until, plan.zone))
        if given.get(plan.account_id, 0) > sold:
            yield plan.account_id, f"given {given[plan.account_id]}, sold {sold}", plan.account_id


# ---- transfers ------------------------------------------------------------------------------------------------------

register_sql(
    _("every transfer has both accounts"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, CASE WHEN d.id IS NULL OR c.id IS NULL THEN 'account missing'
                      WHEN d.currency <> c.currency THEN d.currency || ' to ' || c.currency
                      ELSE 'amount ' || t.amount END, {_WALLET}
    FROM billing_transfer t {SIDES}
    WHERE {{rows:t.id}}
      AND (d.id IS NULL OR c.id IS NULL OR d.currency <> c.currency OR t.amount <= 0 OR d.id = c.id)""",
)
register_sql(
    _("a transfer's accounts fit its kind"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, t.kind || ' from ' || d.kind || ' to ' || c.kind, {_WALLET}, {_KNOWN}
    FROM billing_transfer t {SIDES}
    WHERE {{rows:t.id}} AND t.kind <> 'reversal' AND (t.reverses_id IS NOT NULL OR NOT ({_ROUTES}))""",
)
register_sql(
    _("a reversal equals what it reverses"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, CASE WHEN o.id IS NULL THEN 'reverses nothing'
                      ELSE 'amount ' || t.amount || ', reversed ' || o.amount END, {_WALLET}
    FROM billing_transfer t {SIDES} LEFT JOIN billing_transfer o ON o.id = t.reverses_id
    WHERE {{rows:t.id}} AND t.kind = 'reversal' AND (
        o.id IS NULL OR o.amount <> t.amount OR o.debit_id <> t.credit_id OR o.credit_id <> t.debit_id
        OR o.kind = 'reversal' OR o.id >= t.id OR t.reference <> 'reversal:' || o.id)""",
)
register_sql(
    _("a charge debits the hold's own wallet"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, CASE WHEN h.id IS NULL THEN t.kind || ' names no hold'
                      WHEN h.state <> 'settled' THEN t.kind || ' of a hold that is ' || h.state
                      WHEN t.kind = 'charge' AND t.debit_id <> h.account_id
                           THEN 'debits account ' || t.debit_id || ', hold is of ' || h.account_id
                      ELSE 'debits the debt of another team than the hold''s' END, coalesce(w.id, {_WALLET})
    FROM billing_transfer t {SIDES}
    LEFT JOIN billing_hold h ON h.id = {{hold of t}} LEFT JOIN billing_account w ON w.id = h.account_id
    WHERE {{rows:t.id}} AND t.kind IN ('charge', 'shortfall') AND (
        h.id IS NULL OR h.state <> 'settled'
        OR (t.kind = 'charge' AND t.debit_id <> h.account_id)
        OR (t.kind = 'shortfall' AND coalesce(d.team_id, -1) <> coalesce(w.team_id, -2)))""",
)
register_sql(
    _("a plan pays for a call that reserved it, at most what was reserved"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, CASE WHEN h.id IS NULL THEN 'draws for no hold' ELSE 'draws ' || t.amount || ' for a hold that is '
                      || h.state END, coalesce(h.account_id, {_WALLET})
    FROM billing_transfer t {SIDES} LEFT JOIN billing_hold h ON h.id = {{hold that t draws for}}
    WHERE {{rows:t.id}} AND t.kind = 'draw' AND (
        h.id IS NULL OR h.state <> 'settled' OR t.reference <> {{reference of h}} || '/' || t.debit_id
        OR NOT EXISTS (SELECT 1 FROM {{parts of h}} WHERE {{plan of part}} = t.debit_id
                       AND {{amount of part}} >= t.amount))""",
)
register_sql(
    _("a charge was written when its hold ended"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, t.kind || ' at ' || t.created_at || ', hold ended at ' || h.resolved_at, h.account_id
    FROM billing_transfer t JOIN billing_hold h ON h.id = {{hold of t}}
    WHERE {{rows:t.id}} AND t.kind IN ('charge', 'shortfall') AND abs({{seconds between charge and end}}) > {APART}""",
    freezes=False,  # a label
)
register_sql(
    _("what caused a transfer caused it once"),
    Subject.TRANSFER,
    f"""
    SELECT t.id, t.kind || ' ' || t.reference || ' is there as transfer ' || o.id || ' too', {_WALLET}
    FROM billing_transfer t {SIDES}
    JOIN billing_transfer o ON o.reference = t.reference AND o.kind = t.kind AND o.id <> t.id
    WHERE {{rows:t.id}}""",
)

# ---- holds ----------------------------------------------------------------------------------------------------------

register_sql(
    _("every hold has its account and its price"),
    Subject.HOLD,
    """
    SELECT h.id, CASE WHEN a.id IS NULL THEN 'account missing' WHEN p.id IS NULL THEN 'price missing'
                      WHEN a.kind <> 'wallet' THEN 'account is no wallet'
                      WHEN {team of h} <> a.team_id THEN 'team ' || {team of h} || ', wallet of team ' || a.team_id
                      ELSE 'price of ' || coalesce(m.name, 'nothing') || ', call of ' || {model of h} END, a.id
    FROM billing_hold h LEFT JOIN billing_account a ON a.id = h.account_id
    LEFT JOIN billing_priceversion p ON p.id = h.price_id LEFT JOIN billing_catalogmodel m ON m.id = p.model_id
    WHERE {rows:h.id} AND (a.id IS NULL OR p.id IS NULL OR a.kind <> 'wallet' OR {team of h} <> a.team_id
        OR {model of h} <> coalesce(m.name, ''))""",
)
register_sql(
    _("a settled hold has its charge, a void or open one none"),
    Subject.HOLD,
    """
    SELECT id, state || ', charged ' || charged || ', transfers ' || total, account_id FROM (
        SELECT h.id, h.state, h.charged, h.account_id,
               coalesce((SELECT sum(t.amount) FROM billing_transfer t WHERE t.reference = {reference of h}
                         AND t.kind IN ('charge', 'shortfall')), 0) +
               coalesce((SELECT sum(t.amount) FROM {parts of h} JOIN billing_transfer t ON t.kind = 'draw'
                         AND t.reference = {reference of h} || '/' || {plan of part}), 0) AS total
        FROM billing_hold h WHERE {rows:h.id}) AS sums
    WHERE total <> CASE WHEN state = 'settled' THEN charged ELSE 0 END""",
)
register_sql(
    _("what plans pay of a hold is of its team's plans, and within it"),
    Subject.HOLD,
    """
    SELECT id, 'parts ' || reserved || ' of ' || amount || ', ' || own || ' of ' || named || ' plans of its team',
           account_id FROM (
        SELECT h.id, h.amount, h.account_id, count(*) AS named, sum({amount of part}) AS reserved,
               min({amount of part}) AS least, count(DISTINCT p.id) AS own
        FROM billing_hold h JOIN {parts of h} ON 1 = 1 LEFT JOIN billing_account w ON w.id = h.account_id
        LEFT JOIN billing_account p ON p.id = {plan of part} AND p.kind = 'plan' AND p.team_id = w.team_id
        WHERE {rows:h.id} GROUP BY h.id, h.amount, h.account_id) AS paid
    WHERE reserved > amount OR least <= 0 OR own <> named""",
)
register_sql(
    _("a hold's state, time and amounts go together"),
    Subject.HOLD,
    f"""
    SELECT h.id, h.state || ', amount ' || h.amount || ', charged ' || h.charged || ', generation ' || h.generation
                 || CASE WHEN h.resolved_at IS NULL THEN ', unresolved' ELSE ', resolved' END,
           h.account_id, h.state IN ({OPEN}, 'settled', 'voided')
    FROM billing_hold h
    WHERE {{rows:h.id}} AND (
        h.amount < 0 OR h.charged < 0 OR h.generation < 1 OR (h.charged <> 0 AND h.state <> 'settled')
        OR h.state NOT IN ({OPEN}, 'settled', 'voided')
        OR (h.state IN ({OPEN})) <> (h.resolved_at IS NULL))""",
)
register_sql(
    _("an idempotency key stands for a call of its own wallet that was not void"),
    Subject.HOLD,
    """
    SELECT h.id, 'key of account ' || i.account_id || ', hold of ' || h.account_id || ' is ' || h.state, h.account_id
    FROM billing_hold h JOIN billing_idempotencykey i ON i.hold_id = h.id
    WHERE {rows:h.id} AND (i.account_id <> h.account_id OR h.state = 'voided')""",
    freezes=False,
)


@register(_("no hold is open long after its lease"), Subject.HOLD, freezes=False)
def _leases(rows: Rows) -> Iterator[Found]:
    """It says that nobody sweeps, not that money is wrong: the customer is not stopped for it."""
    now = timezone.now().timestamp()
    sql = """
        SELECT h.id, h.state, h.account_id, {end of h's lease} FROM billing_hold h
        WHERE {rows:h.id} AND h.resolved_at IS NULL AND h.state <> 'review'"""
    for key, state, account, moment in query(sql, rows):
        ends = float(moment)
        if now > ends + LATE:
            yield key, f"{state}, {now - ends:.0f} s after its lease", account
        elif ends > now + settings.HOLD_LEASE + LATE:
            yield key, f"{state}, its lease lasts {ends - now:.0f} s", account


@register(_("an open hold was made when its id says"), Subject.HOLD, freezes=False)
def _times(rows: Rows) -> Iterator[Found]:
    """Of the others the usage record says when."""
    sql = """
        SELECT h.id, h.account_id, {beginning of h} FROM billing_hold h WHERE {rows:h.id} AND h.resolved_at IS NULL"""
    for key, account, moment in query(sql, rows):
        number = key if isinstance(key, uuid.UUID) else uuid.UUID(key)
        if abs((number.int >> 80) / 1000 - float(moment)) > UNLIKE:
            yield key, f"made at {float(moment):.0f}, id of {(number.int >> 80) / 1000:.0f}", account


# ---- budgets --------------------------------------------------------------------------------------------------------


class OpenHold(msgspec.Struct, frozen=True):
    """`made` is in Unix seconds; `budgets` and `parts` as in the table."""

    id: Any
    account: int
    amount: int
    made: float
    budgets: list[list[int]]
    parts: list[list[int]]

    @property
    def accounts(self) -> list[int]:
        return [self.account, *(plan for plan, _amount in self.parts)]


def open_holds() -> Iterator[OpenHold]:
    sql = """
        SELECT h.id, h.account_id, h.amount, h.budgets, h.parts, {beginning of h} FROM billing_hold h
        WHERE h.resolved_at IS NULL AND {rows:1}"""
    for key, account, amount, budgets, parts, moment in query(sql, ALL):
        yield OpenHold(key, account, amount, float(moment), json.loads(budgets), json.loads(parts))


def holds_by_budget() -> dict[int, list[tuple[OpenHold, int]]]:
    """The open holds that name each budget, with the start of the window that they are in."""
    naming: dict[int, list[tuple[OpenHold, int]]] = {}
    for hold in open_holds():
        for number, start in hold.budgets:
            naming.setdefault(number, []).append((hold, start))
    return naming


def chosen(rows: Rows) -> Iterator[Budget]:
    condition, parameters = rows.condition("id")
    yield from Budget.objects.raw(f"SELECT * FROM billing_budget WHERE {condition}", parameters).iterator()


def payer(budget: Budget, known: dict[int, int]) -> int | None:
    """The wallet behind a budget: that of the holds which name it, else its team's."""
    if budget.pk in known or budget.owner_kind != BudgetOwner.TEAM:
        return known.get(budget.pk)
    wallets = Account.objects.filter(kind=AccountKind.WALLET, team_id=budget.owner_id)
    return wallets.values_list("pk", flat=True).first()


@register(_("a budget's figures go together"), Subject.BUDGET)
def _figures(rows: Rows) -> Iterator[Found]:
    """What open holds hold, what exceeds the cap, and a window that has begun."""
    naming = holds_by_budget()
    for budget in chosen(rows):
        holds = naming.get(budget.pk, [])
        if wrong := _odd_figures(budget, sum(hold.amount for hold, _start in holds)):
            yield budget.pk, wrong, payer(budget, {budget.pk: holds[-1][0].account} if holds else {})


def _odd_figures(budget: Budget, held: int) -> str:
    """What is wrong with a budget's own row, given what open holds hold of it."""
    over = max(0, budget.used + budget.held - budget.cap)
    began = budget.starts_at.timestamp()
    if budget.held != held:
        return f"held {budget.held}, open holds {held}"
    if budget.over != over or min(budget.cap, budget.used, budget.held) < 0:
        return f"cap {budget.cap}, used {budget.used}, held {budget.held}, over {budget.over}"
    if budget.window not in Window.values or (budget.window == Window.TOTAL) != (budget.starts_at == windows.EPOCH):
        return f"{budget.window} since {budget.starts_at:%Y-%m-%d %H:%M}"
    if began > timezone.now().timestamp() + LATE:
        return f"the window begins at {budget.starts_at:%Y-%m-%d %H:%M}"
    return ""


@register(BUDGET, Subject.BUDGET, deep=True)
def _spent(rows: Rows) -> Iterator[Found]:
    """All of them in one walk over the holds. For some, `relay.audit` looks up the calls of their owners."""
    if not rows.everything:
        return
    spent: dict[tuple[int, int], int] = {}
    named_by: dict[int, tuple[int, int, int]] = {}
    sql = """
        SELECT h.account_id, a.team_id, {key of h}, h.charged, h.budgets
        FROM billing_hold h JOIN billing_account a ON a.id = h.account_id
        WHERE {rows:h.id} AND h.state = 'settled' AND h.charged > 0"""
    for account, team, key, charged, budgets in query(sql, rows):
        for number, start in json.loads(budgets) if budgets != "[]" else ():
            spent[number, start] = spent.get((number, start), 0) + charged
            named_by[number] = account, team, key
    for budget in chosen(rows):
        account, team, key = named_by.get(budget.pk, (None, None, None))
        owner = team if budget.owner_kind == BudgetOwner.TEAM else key
        found = spent.get((budget.pk, int(budget.starts_at.timestamp())), 0)
        wallet = account or payer(budget, {})
        if found != budget.used:
            yield budget.pk, f"used {budget.used}, holds {found}", wallet
        elif owner is not None and owner != budget.owner_id:
            yield budget.pk, f"of {budget.owner_kind} {budget.owner_id}, named by holds of {owner}", wallet


register_sql(
    _("a budget is as it was last decided"),
    Subject.CHANGE,
    """
    SELECT n.id, n.owner_kind || ' ' || n.owner_id || ' ' || n."window" || ': ' ||
                 CASE WHEN b.id IS NULL THEN 'cap ' || n.cap || ', no budget'
                      WHEN n.cap IS NULL THEN 'no cap, budget ' || b.id
                      ELSE 'cap ' || n.cap || ' and ' || n.extra || ' in ' || n.zone || ', budget ' || b.id || ' has '
                           || b.cap || ' and ' || b.extra || ' in ' || b.zone END, NULL
    FROM billing_budgetchange n
    LEFT JOIN billing_budget b ON b.owner_kind = n.owner_kind AND b.owner_id = n.owner_id AND b."window" = n."window"
    WHERE {rows:n.id}
      AND NOT EXISTS (SELECT 1 FROM billing_budgetchange o WHERE o.owner_kind = n.owner_kind
                      AND o.owner_id = n.owner_id AND o."window" = n."window" AND o.id > n.id)
      AND ((n.cap IS NULL) <> (b.id IS NULL) OR b.cap <> n.cap OR b.extra <> n.extra OR b.zone <> n.zone
           OR (b.extra_until IS NULL) <> (n.until IS NULL) OR b.extra_until <> n.until
           OR (n.action = 'uncap') <> (n.cap IS NULL) OR (n.action = 'raise' AND n.extra = 0))""",
    freezes=False,  # a cap that is wrong takes nobody's money; the administrators decide
)


@register(_("a budget's window began when its calendar says"), Subject.BUDGET, freezes=False)
def _windows(rows: Rows) -> Iterator[Found]:
    """But for one that is kept beyond its zone's own because the zone was changed in the middle of it."""
    for budget in chosen(rows):
        kept = budget.kept_until
        # What is kept ends with a window of the zone that was changed to.
        odd = kept is not None and (budget.window == Window.TOTAL or not _is_start(budget, kept))
        if odd or not ((kept is not None and budget.starts_at < kept) or _is_start(budget, budget.starts_at)):
            until = f" until {kept:%Y-%m-%d %H:%M}" if kept else ""
            yield budget.pk, f"{budget.window} in {budget.zone} since {budget.starts_at:%Y-%m-%d %H:%M}{until}", None


@register(_("an open hold is in a budget's window of its time"), Subject.BUDGET, freezes=False)
def _times_of_windows(rows: Rows) -> Iterator[Found]:
    """Its charge would count in another one. What was charged is in `BUDGET`."""
    naming = holds_by_budget()
    for budget in chosen(rows):
        began = int(budget.starts_at.timestamp())
        for hold, start in naming.get(budget.pk, ()):
            late = start < began and hold.made > began + UNLIKE and not _zone_was_changed(budget)
            if start > began or late:
                yield budget.pk, f"window since {began}, an open hold's since {start}", hold.account
                break


def _zone_was_changed(budget: Budget) -> bool:
    """Then a window may have ended sooner than it was to when a hold was made in it: the clock was set back, and the
    zone changed to one whose day is over earlier. No row tells in which order that was."""
    return BudgetChange.objects.filter(
        owner_kind=budget.owner_kind, owner_id=budget.owner_id, window=budget.window, action=BudgetAction.ZONE
    ).exists()


def _is_start(budget: Budget, moment: dt.datetime) -> bool:
    return budget.window in Window.values and windows.start_of(budget.window, moment, budget.zone) == moment


# ---- prices ---------------------------------------------------------------------------------------------------------

register_sql(
    _("a model has one price at a moment"),
    Subject.PRICE,
    """
    SELECT p.id, 'as price ' || o.id, NULL FROM billing_priceversion p
    LEFT JOIN billing_catalogmodel m ON m.id = p.model_id
    LEFT JOIN billing_priceversion o ON o.model_id = p.model_id AND o.valid_from = p.valid_from AND o.id <> p.id
    WHERE {rows:p.id} AND (o.id IS NOT NULL OR m.id IS NULL)""",
)

# ---- the whole ------------------------------------------------------------------------------------------------------


@register(_("books sum to zero"), Subject.BOOKS, deep=True)
def _zero(rows: Rows) -> Iterator[Found]:
    sql = """
        SELECT coalesce((SELECT sum(amount) FROM billing_transfer t JOIN billing_account a ON a.id = t.credit_id), 0) -
               coalesce((SELECT sum(amount) FROM billing_transfer t JOIN billing_account a ON a.id = t.debit_id), 0)
        WHERE {rows:1}"""
    for (total,) in query(sql, rows):
        if total:
            yield None, total, None
