"""EPay: the payer is sent to a gateway's `submit.php`, which tells us by a signed notification.

The scheme that gateways of this family share: parameters that are not empty, but for `sign` and `sign_type`, sorted by
name and written `a=1&b=2` without escapes, with the merchant's key behind them; `sign` is the MD5 of that in lower
case hexadecimal. MD5 is the scheme's own. What makes it bearable here: the key is long, comparisons take constant time,
and no text of the payer's is ever signed by us (the way to pay is one of a list), so a signature of ours cannot be cut
into a notification. A notification comes by GET or POST and wants to hear `success`.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import requests
from django.conf import settings

from billing.payments import (
    Checkout,
    Delivery,
    Event,
    Fact,
    Forged,
    Malformed,
    Method,
    Order,
    Outcome,
    Paid,
    Problem,
    ProviderFailed,
    addresses,
)
from billing.payments import currencies as money_of

NAME = "epay"
SHORTEST_KEY = 16
MOST_FIELDS = 40
LARGEST_ANSWER = 64 * 1024
TIMEOUT = (5, 15)  # seconds to connect, to answer
NAMES = {"alipay": "支付宝 Alipay", "wxpay": "微信支付 WeChat Pay", "qqpay": "QQ 钱包", "bank": "云闪付 UnionPay"}

_TYPE = re.compile(r"[a-z0-9_]{1,16}")
_TRADE = re.compile(r"[!-~]{1,128}")
_STATUS = re.compile(r"[A-Z_]{1,60}")
_ORDER = re.compile(r"[!-~]{1,64}")
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=str)  # 19.90 is not to become a float


# ---- settings -------------------------------------------------------------------------------------------------------


def configured() -> bool:
    return bool(
        settings.EPAY_PID
        and len(settings.EPAY_KEY) >= SHORTEST_KEY
        and addresses.allowed(settings.EPAY_URL)
        and methods()
    )


def problems() -> Iterator[Problem]:
    url, pid, key = settings.EPAY_URL, settings.EPAY_PID, settings.EPAY_KEY
    if not (url or pid or key):
        return
    for name, value in (("EPAY_URL", url), ("EPAY_PID", pid), ("EPAY_KEY", key)):
        if not value:
            what = f"{name} is missing: EPay's notifications are not taken and nobody can pay with it"
            yield Problem(True, what, f"Set {name}, or unset the others")
    if key and len(key) < SHORTEST_KEY:
        what = f"EPAY_KEY has less than {SHORTEST_KEY} characters: whoever has seen a signature could find it"
        yield Problem(True, what, "Have the gateway make a new one; until then EPay is off")
    if url and not addresses.allowed(url):
        yield Problem(True, "EPAY_URL is neither HTTPS nor on the loopback", "Use the gateway's https:// address")
    if not methods():
        yield Problem(True, "EPAY_TYPES names no way to pay", "List some, such as alipay,wxpay")


def currencies() -> tuple[str, ...]:
    return (settings.EPAY_CURRENCY,)


def methods() -> tuple[Method, ...]:
    known = [name for name in settings.EPAY_TYPES if _TYPE.fullmatch(name)]
    return tuple(Method(name, NAMES.get(name, name)) for name in known)


def answer(outcome: Outcome) -> tuple[int, str]:
    """`success` ends the gateway's attempts; what contradicts the order is told, and shows on its side too."""
    return (400, "fail") if outcome in (Outcome.REFUSED, Outcome.UNKNOWN) else (200, "success")


# ---- asking the gateway ---------------------------------------------------------------------------------------------


def sign(parameters: Mapping[str, str], key: str) -> str:
    """The scheme's signature of parameters."""
    signed = sorted((name, value) for name, value in parameters.items() if value and name not in ("sign", "sign_type"))
    text = "&".join(f"{name}={value}" for name, value in signed) + key
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - the scheme's own


def begin(order: Order) -> Checkout:
    """Where the payer goes. Nothing is asked: the address itself is the order."""
    parameters = {
        "pid": settings.EPAY_PID,
        "type": order.method,
        "out_trade_no": order.id.hex,
        "notify_url": order.notify_url,
        "return_url": order.return_url,
        "name": order.title,
        "money": money_of.to_text(order.due, order.currency),
    }
    signed = {**parameters, "sign": sign(parameters, settings.EPAY_KEY), "sign_type": "MD5"}
    return Checkout(f"{_page('submit.php')}?{urlencode(signed)}")


def ask(order: Order) -> tuple[Fact, ...]:
    """Whether the gateway says that an order is paid. Raises ProviderFailed, without the address: the key is in it."""
    query = {"act": "order", "pid": settings.EPAY_PID, "key": settings.EPAY_KEY, "out_trade_no": order.id.hex}
    try:
        with requests.get(
            _page("api.php"), params=query, timeout=TIMEOUT, allow_redirects=False, stream=True
        ) as response:
            content = response.raw.read(LARGEST_ANSWER + 1, decode_content=True)
            status = response.status_code
    except (requests.RequestException, OSError) as error:
        raise ProviderFailed(f"EPay: {type(error).__name__}") from None
    if status != 200 or len(content) > LARGEST_ANSWER:
        raise ProviderFailed(f"EPay: status {status}")
    return _asked(_answered(content))


def _answered(content: bytes) -> dict[str, str]:
    try:
        found = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ProviderFailed("EPay: no JSON") from None
    if not isinstance(found, dict):
        raise ProviderFailed("EPay: no object")
    return {str(name): str(value) for name, value in found.items() if isinstance(value, str | int)}


def _asked(found: dict[str, str]) -> tuple[Fact, ...]:
    if found.get("code") != "1" or found.get("status") != "1":
        return ()
    fact = _paid(found)
    return (fact,) if fact is not None and found.get("pid", settings.EPAY_PID) == settings.EPAY_PID else ()


def refunds(receipt: str) -> tuple[Fact, ...]:
    return ()


def refund(*, receipt: str, due: int, key: str) -> None:
    """Gateways of this family differ in how they refund, if they do: it is done on their page, and by an adjustment."""
    raise ProviderFailed("EPay has no refunds: refund on the gateway's page and adjust the wallet")


def _page(name: str) -> str:
    return f"{settings.EPAY_URL.rstrip('/')}/{name}"


# ---- notifications --------------------------------------------------------------------------------------------------


def receive(delivery: Delivery) -> Event:
    """A notification. Raises Forged, Malformed."""
    found = _parameters(delivery)
    given = found.get("sign", "").lower()
    if not hmac.compare_digest(given.encode(), sign(found, settings.EPAY_KEY).encode()):
        raise Forged("the signature is not ours")
    if not hmac.compare_digest(found.get("pid", "").encode(), settings.EPAY_PID.encode()):
        raise Forged("the notification is of another merchant")
    trade, status = found.get("trade_no", ""), found.get("trade_status", "")
    if not _TRADE.fullmatch(trade) or not _STATUS.fullmatch(status):
        raise Malformed("the notification lacks its trade")
    name = f"{trade}:{given}"  # what differs from an earlier one of the same trade is signed differently
    if status != "TRADE_SUCCESS":
        return Event(name, status)
    fact = _paid(found)
    if fact is None:
        raise Malformed("the notification lacks its order or its amount")
    return Event(name, status, (fact,))


def _parameters(delivery: Delivery) -> dict[str, str]:
    """Those of the address by GET, those of the form by POST; one that comes twice is no notification."""
    try:
        text = delivery.query if delivery.method == "GET" else delivery.body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise Malformed("the notification is no form") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Malformed("a parameter is there twice")
    return found


def _paid(found: Mapping[str, str]) -> Paid | None:
    currency = settings.EPAY_CURRENCY
    due, trade = money_of.parse(found.get("money", ""), currency), found.get("trade_no", "")
    order = found.get("out_trade_no", "")
    if due is None or not _ORDER.fullmatch(order) or not _TRADE.fullmatch(trade):
        return None
    return Paid(order=order, checkout="", receipt=trade, due=due, currency=currency)
