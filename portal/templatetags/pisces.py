"""Template helpers: icons, amounts, numbers."""

import datetime as dt
from typing import Any

from django import template
from django.conf import settings
from django.forms import BaseForm, BoundField, CheckboxInput
from django.template import Context
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from billing import money, prices
from billing.models import ModelKind
from billing.payments import currencies, rates
from billing.payments.models import Payment, PaymentState
from billing.payments.rates import Rate
from portal import timeline, wallet, wording
from portal.charts import Stack
from relay.models import Attempt, CallLog

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of the sprite, decorative: the word beside it says what it means."""
    return format_html('<svg class="i" viewBox="0 0 16 16" aria-hidden="true"><use href="#icon-{}"/></svg>', name)


@register.filter
def amount(nano: int | None, decimals: int = 2) -> str:
    """Nano-units with this many decimals, rounded half up for reading; the exact figure belongs into `title`."""
    if nano is None:
        return "—"
    step = 10 ** (9 - decimals)
    rounded = (abs(nano) + step // 2) // step
    whole, fraction = divmod(rounded, 10**decimals)
    text = f"{whole:,}.{fraction:0{decimals}d}" if decimals else f"{whole:,}"
    return f"−{text}" if nano < 0 and rounded else text


@register.filter("decimals")
def decimals_of(nano: int) -> int:
    """Cents for amounts of a whole unit or more; for less what a single call costs can be seen."""
    return 2 if nano >= money.NANO or not nano else 6


@register.filter
def with_sign(written: str, sign: str) -> str:
    """An amount as it was written, after the currency's sign; a minus stands before both."""
    minus = written[:1] if written[:1] in ("−", "-") else ""
    return f"{minus and '−'}{sign}{written[len(minus) :]}"


@register.filter
def at_rate(nano: int, rate: Rate) -> str:
    """An amount in the reader's currency, with its sign: for reading, next to the ledger's own."""
    return with_sign(amount(rate.shown(nano)), currencies.sign_of(rate.currency))


@register.filter
def minor(units: int, currency: str) -> str:
    """Minor units of a currency as an amount with its sign."""
    return f"{currencies.sign_of(currency)}{currencies.to_text(units, currency)}"


@register.simple_tag
def payment_state(payment: Payment) -> SafeString:
    """A payment's state: icon, word, tone."""
    tone, name = wallet.LOOKS[PaymentState(payment.state)]
    return format_html('<span class="badge {}">{}{}</span>', tone, icon(name), payment.get_state_display())


@register.simple_tag
def currencies_offered() -> list[str]:
    return rates.offered()


@register.filter
def exact(nano: int | None) -> str:
    """Nano-units as the exact decimal, nine digits after the point."""
    return "—" if nano is None else money.to_text(nano, decimals=9)


@register.filter
def count(number: int | None) -> str:
    return "—" if number is None else f"{number:,}"


@register.filter
def ago(moment: dt.datetime | None) -> str:
    """How long ago, in one unit."""
    if moment is None:
        return _("Never")
    seconds = int((timezone.now() - moment).total_seconds())
    if seconds < 60:
        return _("just now")
    if seconds < 3600:
        return ngettext("%(n)d min ago", "%(n)d min ago", seconds // 60) % {"n": seconds // 60}
    if seconds < 86400:
        return ngettext("%(n)d h ago", "%(n)d h ago", seconds // 3600) % {"n": seconds // 3600}
    return ngettext("%(n)d day ago", "%(n)d days ago", seconds // 86400) % {"n": seconds // 86400}


@register.filter
def price(nano: int | None) -> str:
    """A price with as many decimals as it has, two at least."""
    if nano is None:
        return "—"
    whole, _point, digits = money.to_text(abs(nano), decimals=2).partition(".")
    return f"{'−' if nano < 0 else ''}{int(whole):,}.{digits}"


@register.filter
def took(milliseconds: float | None) -> str:
    """A span of time with its unit: `6 ms`, `8.99 s`."""
    return "—" if milliseconds is None else timeline.duration(milliseconds)


@register.filter
def seconds(milliseconds: float | None) -> str:
    """The same in seconds, for columns whose head names the unit."""
    return "—" if milliseconds is None else f"{milliseconds / 1000:.2f}"


@register.filter
def tokens(number: int | None) -> str:
    """A context window in short: `128K`, `1M`."""
    if not number:
        return "—"
    for unit, size in (("M", 1_000_000), ("K", 1000)):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + unit
    return str(number)


@register.filter
def margin(stack: Stack, decimals: int) -> str:
    """The class of a chart's margin, in which the longest label of its values has room."""
    longest = max(len(settings.CURRENCY_SIGN + amount(value, decimals)) for _at, value in stack.values)
    return "" if longest < 5 else "wide" if longest < 9 else "widest"


@register.filter(expects_localtime=False)
def local(moment: dt.datetime, style: str) -> str:
    """A time on the clocks that it is given in, which the page names."""
    return formats.date_format(moment.replace(tzinfo=None), style)


@register.filter
def day(moment: dt.datetime | None) -> str:
    """A date as a person writes it: `21 Nov 2026`."""
    return "—" if moment is None else formats.date_format(moment, _("j M Y"))


# ---- calls ----------------------------------------------------------------------------------------------------------


@register.filter
def tokens_in(call: CallLog) -> int | None:
    return sum(call.usage.get(name, 0) for name in prices.INPUT_BUCKETS) or None


@register.filter
def tokens_out(call: CallLog) -> int | None:
    return sum(call.usage.get(name, 0) for name in prices.OUTPUT_BUCKETS) or None


@register.filter
def speed(call: CallLog) -> float | None:
    """Output tokens a second after the first byte; None where it cannot be told."""
    out = tokens_out(call)
    if not out or not call.streamed or call.first_byte_ms is None or call.duration_ms <= call.first_byte_ms:
        return None
    return out * 1000 / (call.duration_ms - call.first_byte_ms)


@register.simple_tag
def call_state(call: CallLog) -> SafeString:
    """A call's state: icon, word, tone; for a failed one its status too."""
    tone, name = wording.LOOKS.get(call.state, ("off", "bad"))
    word = call.get_state_display()
    if tone in ("bad", "warn"):
        word = f"{call.status} {wording.SHORT.get(call.error, word)}"
    return format_html('<span class="badge {}">{}{}</span>', tone, icon(name), word)


@register.filter
def tone(call: CallLog) -> str:
    return wording.LOOKS.get(call.state, ("off", "bad"))[0]


@register.filter
def released(call: CallLog) -> int:
    """What was given back of the hold; nothing where the call cost more than was held."""
    return max(0, call.held - call.cost)


@register.filter
def first_byte_after(attempt: Attempt) -> int | None:
    """Milliseconds from the attempt's beginning to its first byte."""
    return None if attempt.first_byte_ms is None else round(attempt.first_byte_ms - attempt.began_ms)


@register.filter
def lasted(attempt: Attempt) -> int:
    return round(attempt.ended_ms - attempt.began_ms)


@register.filter
def multiplier(millionths: int) -> str:
    return prices.write_multiplier(millionths, decimals=2)


@register.filter
def tier(call: CallLog) -> int:
    """The length of input above which the call's prices count; 0 for a model's first prices."""
    return max((line.get("above", 0) for line in call.lines), default=0)


@register.filter
def kind(name: str) -> str:
    """A model's kind, by its label."""
    return str(dict(ModelKind.choices).get(name, name))


@register.filter
def bucket(name: str) -> str:
    return wording.bucket(name)


@register.filter
def unit(name: str) -> str:
    """What the price of a bucket buys where that is not a million tokens; else empty."""
    return str(wording.UNITS.get(name.partition("/")[0], ""))


@register.filter
def unit_price(line: dict[str, Any]) -> int:
    """A stored price line's price in nano-units: of one unit, or of a million tokens."""
    rate: int = line["rate"]
    return rate // money.MILLION if line["bucket"] in wording.UNITS else rate


@register.filter
def source(name: str) -> str:
    return str(wording.SOURCES.get(name, name))


@register.filter
def window(name: str) -> str:
    """A budget's running window."""
    return str(wording.WINDOWS.get(name, name))


@register.filter
def outcome(name: str) -> str:
    return str(wording.OUTCOMES.get(name, name))


# ---- pages ----------------------------------------------------------------------------------------------------------


@register.simple_tag(takes_context=True)
def here(context: Context, *names: str) -> SafeString:
    """Marks a link of the navigation as that of the current page."""
    match = getattr(context.get("request"), "resolver_match", None)
    found = match is not None and match.url_name in names
    return SafeString(' aria-current="page"' if found else "")


@register.filter
def styled(field: BoundField) -> SafeString:
    """The field's control as the portal draws it, tied to its hint and its error."""
    widget = field.field.widget
    attrs: dict[str, str | bool] = {}
    if getattr(widget, "input_type", "") not in ("checkbox", "radio") and not isinstance(widget, CheckboxInput):
        attrs["class"] = f"{widget.attrs.get('class', '')} input".strip()
    described = [f"{field.auto_id}_error"] if field.errors else []
    if field.help_text:
        described.append(f"{field.auto_id}_helptext")
    if described:
        attrs["aria-describedby"] = " ".join(described)
    return field.as_widget(attrs=attrs)


@register.filter
def plain(field: BoundField) -> SafeString:
    """The control alone, where the page itself draws what stands around it."""
    attrs: dict[str, str | bool] = {"class": "input"}
    if field.errors:
        attrs["aria-describedby"] = f"{field.auto_id}_error"
    return field.as_widget(attrs=attrs)


@register.filter
def coded(field: BoundField) -> SafeString:
    """The control alone, for text that is copied letter by letter."""
    attrs: dict[str, str | bool] = {"class": "input mono"}
    if field.errors:
        attrs["aria-describedby"] = f"{field.auto_id}_error"
    return field.as_widget(attrs=attrs)


@register.filter
def wrong(form: BaseForm) -> list[BoundField]:
    """The fields that have an error, in their order."""
    return [field for field in form if field.errors]


@register.filter
def is_check(field: BoundField) -> bool:
    return isinstance(field.field.widget, CheckboxInput)
