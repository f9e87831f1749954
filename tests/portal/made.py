"""Usage records as the relay writes them, without the call."""

import datetime as dt
import uuid
from typing import Any

from django.utils import timezone

from billing import ids, prices
from billing.models import PriceVersion
from billing.prices import PriceCard
from billing.usage import Usage
from keys.models import ApiKey
from relay.models import Attempt, CallLog


def call(
    key: ApiKey, price: PriceVersion, *, ago: dt.timedelta = dt.timedelta(), usage: Usage | None = None, **fields: Any
) -> CallLog:
    """A settled call; with `state="failed"` one that was given back."""
    failed = fields.get("state", "settled") not in ("settled", "left")
    used = usage or Usage(input=1000, cache_read=500, output=100)
    charge = prices.NOTHING if failed else prices.charge(used, PriceCard(price.rates or {}))
    began = fields.get("created_at", timezone.now() - ago)
    number = uuid.UUID(int=ids.first(began).int | ids.uuid7().int & (1 << 80) - 1)
    values: dict[str, Any] = {
        "id": number,
        "team_id": key.team_id,
        "key": key,
        "request_id": str(number),
        "endpoint": "chat.completions",
        "protocol": "openai",
        "model": price.model.name,
        "state": "settled",
        "status": 502 if failed else 200,
        "error": "upstream_error" if failed else "",
        "usage": {} if failed else dict(used.buckets()),
        "usage_source": "none" if failed else "reported",
        "lines": [
            {"bucket": line.bucket, "quantity": line.quantity, "rate": line.rate, "multiplier": line.multiplier}
            | {"amount": line.amount}
            for line in charge.lines
        ],
        "cost": charge.amount,
        "held": charge.amount * 3 + 5,
        "price_id": price.pk,
        "hold_ms": 4.0,
        "first_byte_ms": None if failed else 210.0,
        "duration_ms": 1500.0,
        "created_at": began,
    }
    return CallLog.objects.create(**values | fields)


def attempt(of: CallLog, number: int = 1, **fields: Any) -> Attempt:
    values: dict[str, Any] = {
        "call": of,
        "number": number,
        "channel": "main",
        "credential": "k81Q",
        "protocol": "openai",
        "outcome": "complete",
        "status": 200,
        "began_ms": 5.0,
        "first_byte_ms": 210.0,
        "ended_ms": 1490.0,
    }
    return Attempt.objects.create(**values | fields)
