"""Template helpers: icons, amounts, numbers."""

import datetime as dt

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from billing import money

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of the sprite, decorative: the word beside it says what it means."""
    return format_html('<svg class="i" viewBox="0 0 16 16" aria-hidden="true"><use href="#{}"/></svg>', name)


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
