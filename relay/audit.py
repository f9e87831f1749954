"""The books against the usage records: every call is recorded once, and costs what was charged for it."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from billing import audit, catalog, prices
from billing import usage as usages
from billing.audit import Rows, Subject
from billing.audit.checks import Found, query
from billing.audit.invariants import BUDGET, chosen, payer
from billing.models import BudgetOwner, PriceVersion
from billing.prices import Charge, Line, PriceCard
from billing.usage import Source
from relay import recovery, rollups, settlement

# A call's window is chosen when its hold is opened, which is after the call's own time, but not by as much as this.
EARLIER = dt.timedelta(hours=1)
FRESH = dt.timedelta(days=1)
register = partial(audit.register, app="relay")
register_sql = partial(audit.register_sql, app="relay")
# Calls that began before this moment may have been pruned; the books of them are kept. A minute, because a call's id
# says when it began to the millisecond, and its time is a little later.
_KEPT = "(SELECT coalesce(max(pruned), 0) + 60 FROM relay_rollupcursor)"
_WALLET = "(SELECT a.id FROM billing_account a WHERE a.team_id = c.team_id AND a.kind = 'wallet')"

register_sql(
    _("a resolved hold has its usage record, with the same cost"),
    Subject.HOLD,
    f"""
    SELECT h.id, CASE WHEN c.id IS NULL THEN 'no usage record'
                      ELSE 'cost ' || c.cost || ', charged ' || h.charged END, h.account_id
    FROM billing_hold h LEFT JOIN relay_calllog c ON c.id = h.id
    WHERE {{rows:h.id}} AND h.state IN ('settled', 'voided')
        AND (c.cost <> h.charged OR (c.id IS NULL AND {{beginning of h}} >= {_KEPT}))""",
)
register_sql(
    _("an open hold has no usage record yet"),
    Subject.HOLD,
    """
    SELECT h.id, 'recorded as ' || c.state || ', hold is ' || h.state, h.account_id
    FROM billing_hold h JOIN relay_calllog c ON c.id = h.id
    WHERE {rows:h.id} AND h.state NOT IN ('settled', 'voided')""",
)
register_sql(
    _("a usage record says what became of its hold"),
    Subject.CALL,
    """
    SELECT c.id, 'recorded as ' || c.state || ', hold is ' || h.state, h.account_id
    FROM relay_calllog c JOIN billing_hold h ON c.id = h.id
    WHERE {rows:c.id} AND ((c.state = 'settled' AND h.state = 'voided') OR c.state = 'refused'
        OR c.state NOT IN ('settled', 'left', 'failed', 'lost'))""",
)
register_sql(
    _("a usage record's state fits its status"),
    Subject.CALL,
    """
    SELECT c.id, c.state || ' with status ' || c.status, NULL FROM relay_calllog c
    WHERE {rows:c.id} AND ((c.state = 'settled' AND c.status <> 200) OR (c.state = 'failed' AND c.status < 400)
        OR (c.state = 'left' AND c.status NOT IN (200, 499)))""",
    freezes=False,  # a label
)
register_sql(
    _("a hold's key is its team's"),
    Subject.HOLD,
    """
    SELECT h.id, 'key ' || {key of h}, h.account_id FROM billing_hold h
    LEFT JOIN billing_account a ON a.id = h.account_id LEFT JOIN keys_apikey k ON k.id = {key of h}
    WHERE {rows:h.id} AND {key of h} IS NOT NULL AND coalesce(k.team_id, 0) <> coalesce(a.team_id, 0)""",
)
register_sql(
    _("a budget's owner is there"),
    Subject.BUDGET,
    """
    SELECT b.id, b.owner_kind || ' ' || b.owner_id, NULL FROM billing_budget b
    LEFT JOIN keys_apikey k ON b.owner_kind = 'key' AND k.id = b.owner_id
    LEFT JOIN portal_team t ON b.owner_kind = 'team' AND t.id = b.owner_id
    WHERE {rows:b.id} AND k.id IS NULL AND t.id IS NULL""",
)
register_sql(
    _("a usage record says whose money it was, and how much was held"),
    Subject.CALL,
    """
    SELECT c.id, CASE WHEN c.held <> h.amount THEN 'held ' || c.held || ', hold ' || h.amount
                      WHEN coalesce(c.price_id, 0) <> h.price_id THEN 'price ' || coalesce(c.price_id, 0)
                           || ', hold has ' || h.price_id
                      WHEN coalesce(a.team_id, 0) <> c.team_id THEN 'team ' || c.team_id
                           || ', wallet of team ' || coalesce(a.team_id, 0)
                      ELSE 'another time than its hold' END, h.account_id
    FROM relay_calllog c JOIN billing_hold h ON c.id = h.id LEFT JOIN billing_account a ON a.id = h.account_id
    WHERE {rows:c.id} AND (c.held <> h.amount OR coalesce(c.price_id, 0) <> h.price_id
        OR coalesce(a.team_id, 0) <> c.team_id OR c.created_at <> h.created_at)""",
)
register_sql(
    _("a call that costs has its hold"),
    Subject.CALL,
    f"""
    SELECT c.id, CASE WHEN c.cost > 0 THEN 'cost ' || c.cost || ', no hold' ELSE c.state || ', no hold' END, {_WALLET}
    FROM relay_calllog c LEFT JOIN billing_hold h ON c.id = h.id
    WHERE {{rows:c.id}} AND h.id IS NULL AND (c.cost <> 0 OR c.held <> 0 OR c.state IN ('settled', 'left', 'lost')
        OR EXISTS (SELECT 1 FROM relay_attempt p WHERE p.call_id = c.id))""",
)
register_sql(
    _("a call's attempts are numbered, and the last is the one that it names"),
    Subject.CALL,
    """
    SELECT id, CASE WHEN tried = 0 THEN 'none, and the call names ' || channel
                    WHEN numbers <> tried OR last <> tried OR first <> 1 THEN tried || ' attempts up to number ' || last
                    ELSE 'the last is not on ' || channel END, NULL
    FROM (SELECT c.id, c.channel, count(p.id) AS tried, count(DISTINCT p.number) AS numbers,
                 coalesce(min(p.number), 1) AS first, coalesce(max(p.number), 0) AS last,
                 sum(CASE WHEN p.channel = c.channel AND p.number = (
                     SELECT max(q.number) FROM relay_attempt q WHERE q.call_id = c.id) THEN 1 ELSE 0 END) AS named
          FROM relay_calllog c LEFT JOIN relay_attempt p ON p.call_id = c.id
          WHERE {rows:c.id} GROUP BY c.id, c.channel) AS calls
    WHERE (tried = 0 AND channel <> '') OR (tried > 0 AND (numbers <> tried OR last <> tried OR first <> 1
        OR named <> 1))""",
    freezes=False,  # nobody pays by it
)
register_sql(
    _("an attempt belongs to a call"),
    Subject.ATTEMPT,
    """
    SELECT p.id, 'call missing', NULL FROM relay_attempt p LEFT JOIN relay_calllog c ON c.id = p.call_id
    WHERE {rows:p.id} AND c.id IS NULL""",
    freezes=False,
)
register_sql(
    _("an attempt went to a channel that its call was to try"),
    Subject.ATTEMPT,
    """
    SELECT p.id, 'number ' || p.number || ' on ' || p.channel || ', not on ' || coalesce({channel of p}, 'any'), NULL
    FROM relay_attempt p JOIN billing_hold h ON h.id = p.call_id
    WHERE {rows:p.id} AND p.channel <> coalesce({channel of p}, '')""",
    freezes=False,
)
register_sql(
    _("the last attempt used what its call is charged for"),
    Subject.ATTEMPT,
    """
    SELECT p.id, 'used ' || coalesce(CAST(p.usage AS text), 'nothing') || ', the call '
                 || coalesce(CAST(c.usage AS text), 'nothing'), NULL
    FROM relay_attempt p JOIN relay_calllog c ON c.id = p.call_id
    WHERE {rows:p.id} AND (
        (c.usage_source <> 'none' AND (p.usage IS NULL OR p.usage <> c.usage OR p.usage_source <> c.usage_source)
         AND NOT EXISTS (SELECT 1 FROM relay_attempt q WHERE q.call_id = p.call_id AND q.number > p.number))
        OR (p.usage IS NULL) <> (p.usage_source = 'none') OR p.cost < 0 OR (p.cost IS NOT NULL AND p.usage IS NULL))""",
    freezes=False,  # what the provider charges us
)
register_sql(
    _("an answer is kept for a call that was paid for"),
    Subject.HOLD,
    """
    SELECT h.id, 'hold is ' || h.state, h.account_id
    FROM billing_hold h JOIN relay_storedanswer s ON s.hold_id = h.id WHERE {rows:h.id} AND h.state <> 'settled'""",
    freezes=False,
)


# ---- lines ----------------------------------------------------------------------------------------------------------

_LINES = msgspec.json.Decoder(list[Line], strict=True)
_USAGE = msgspec.json.Decoder(dict[str, int], strict=True)
# What a hold's facts say too, under their own names (`relay.records.Call.facts`).
_TOLD = {
    "team": "team_id", "key": "key_id", "request_id": "request_id", "endpoint": "endpoint", "protocol": "protocol",
    "model": "model", "streamed": "streamed", "ip": "client_ip",
}  # fmt: skip


class _Recorded(NamedTuple):
    """A usage record and its hold, as the tables have them; `hold` to `facts` are None where there is no hold."""

    key: Any
    state: str
    source: str
    model: str
    cost: int
    price: int | None
    usage: str
    lines: str
    hold: str | None
    held: int | None
    facts: str | None
    account: int | None
    channel: str
    upstream_model: str
    told: Any  # the columns of _TOLD, in its order

    @property
    def number(self) -> uuid.UUID:
        return self.key if isinstance(self.key, uuid.UUID) else uuid.UUID(self.key)


@register(_("a usage record's lines follow from usage and price, and add up to its cost"), Subject.CALL)
def _lines(rows: Rows) -> Iterator[Found]:
    """Each charge once more, from the price version and the usage, to the nano-unit and line by line.

    Only a call of the last day freezes its wallet: a release that prices otherwise than the one before must not stop
    everybody for what they paid then. That an old call's cost is its charge, other checks say.
    """
    told = ", ".join(f"c.{column}" for column in _TOLD.values())
    sql = f"""
        SELECT c.id, c.state, c.usage_source, c.model, c.cost, c.price_id, c.usage, c.lines, h.state, h.amount, h.facts,
               coalesce(h.account_id, {_WALLET}), c.channel, c.upstream_model, {told}
        FROM relay_calllog c LEFT JOIN billing_hold h ON h.id = c.id WHERE {{rows:c.id}}"""
    cards, yesterday = _Cards(), (timezone.now() - FRESH).timestamp()
    for values in query(sql, rows):
        call = _Recorded._make((*values[:14], values[14:]))
        try:
            wrong = _unlike_its_hold(call) or _unlike_its_price(call, cards)
        except (msgspec.DecodeError, ValueError, TypeError, KeyError) as error:
            wrong = f"unreadable: {error}"
        if wrong:
            yield call.key, wrong[:300], call.account, (call.number.int >> 80) / 1000 > yesterday


def _unlike_its_hold(call: _Recorded) -> str:
    """Where the record and the facts of its hold differ."""
    if call.facts is None:
        return ""
    facts = json.loads(call.facts)
    for name, value in zip(_TOLD, call.told, strict=True):
        told = facts.get(name)
        if told != value and (name in facts or (value and value != str(call.number))):
            return f"{name} {value!r}, hold has {told!r}"
    tried = list(zip(facts.get("channels", ()), facts.get("models", ()), strict=False))
    if tried and call.channel and (call.channel, call.upstream_model) not in tried:
        return f"{call.upstream_model!r} on {call.channel!r}, hold has {tried}"
    billing = facts.get("billing", "metered")
    return "" if billing in ("metered", "per_call") else f"hold is billed {billing!r}"


def _unlike_its_price(call: _Recorded, cards: "_Cards") -> str:
    """What is wrong with the charge, or nothing."""
    recorded, counted = Charge(call.cost, tuple(_LINES.decode(call.lines))), _USAGE.decode(call.usage)
    if call.source not in list(Source) or not usages.are_known(counted) or min(counted.values(), default=1) < 1:
        return f"usage {counted} is {call.source!r}"
    if call.hold == "settled" and call.source == Source.NONE and call.state == "lost":
        return "" if recorded == recovery.decided(call.cost) and not counted else "not as an administrator decides"
    if (call.hold == "settled") == (call.source == Source.NONE):
        return f"hold is {call.hold}, usage is {call.source!r}"
    if call.hold != "settled":
        return f"hold is {call.hold}, usage {counted}" if counted or recorded.lines or call.cost else ""
    name, card = cards.of(call.price or 0)
    if card is None or name != call.model:
        return f"price {call.price} is for {name}, not for {call.model}"
    whole = recovery.due(usages.of(counted), json.loads(call.facts or "{}"), card)
    due = prices.capped(whole, settlement.most(call.source, call.state, call.held or 0))
    return "" if due == recorded else f"cost {call.cost} by {_figures(recorded)}, due {due.amount} by {_figures(due)}"


def _figures(charge: Charge) -> str:
    return " + ".join(f"{line.quantity} {line.bucket} × {line.rate} = {line.amount}" for line in charge.lines) or "none"


class _Cards:
    """Price versions by id, each read once a run: the model that it is for, and its card."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, PriceCard | None]] = {}

    def of(self, price: int) -> tuple[str, PriceCard | None]:
        if price not in self._known:
            version = PriceVersion.objects.select_related("model").filter(pk=price).first()
            self._known[price] = (version.model.name, catalog.card_of(version)) if version else ("nothing", None)
        return self._known[price]


# ---- budgets --------------------------------------------------------------------------------------------------------


@register(BUDGET, Subject.BUDGET, deep=True)
def _spent(rows: Rows) -> Iterator[Found]:
    """For some budgets: the holds of their owners' calls since the window began. For all, billing walks the holds."""
    if rows.everything:
        return
    pruned = rollups.cursor().pruned
    for budget in chosen(rows):
        if budget.starts_at.timestamp() < pruned:
            continue  # some of its calls are there no more; a full audit walks the holds
        owner = "team_id" if budget.owner_kind == BudgetOwner.TEAM else "key_id"
        mine = [budget.pk, int(budget.starts_at.timestamp())]
        since = connection.ops.adapt_datetimefield_value(budget.starts_at - EARLIER)
        sql = f"""
            SELECT h.account_id, h.charged, h.budgets FROM relay_calllog c JOIN billing_hold h ON h.id = c.id
            WHERE {{rows:c.{owner}}} AND c.created_at >= %s AND h.state = 'settled' AND h.charged > 0"""
        found, payers = 0, {}
        for account, charged, counted_in in query(sql, Rows(keys=(budget.owner_id,)), [since]):
            found += charged if mine in json.loads(counted_in) else 0
            payers[budget.pk] = account
        if found != budget.used:
            yield budget.pk, f"used {budget.used}, holds {found}", payer(budget, payers)
