"""Channels and their credentials: the only writers of `Channel`, `Credential` and `DefaultModel`.

Every change bumps the channels' revision in its transaction, so that all processes have it within a second. A channel
whose address changes loses its credentials unless new ones come with the change: a secret is never sent to an address
that it was not given for.
"""

import datetime as dt
import ipaddress
import math
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, DateTimeField, Q, When
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from billing import money, prices, revisions
from keys import rates
from keys import services as keys
from relay import demo, vault
from relay.channels import dress, presets, quirks, upstream
from relay.channels.dress import Dress
from relay.channels.health import Tolerance
from relay.channels.routing import Timeouts
from relay.models import Channel, Credential, DefaultModel, OnHangup, Protocol, retried
from relay.protocols import capabilities
from relay.protocols.capabilities import Capabilities

SHORTEST_WAIT, LONGEST_WAIT = 0.001, 24 * 60 * 60  # seconds; a timeout above a day is a mistake
HEAVIEST = 1_000_000
LONGEST_PROXY = 300
DEEPEST = 32  # levels of a value within values
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
LOST = "its last credential was removed"  # why a channel is disabled that has none any more
RELAPSE = dt.timedelta(minutes=30)  # so soon after a probe a refusal says that the probe was wrong
SHOWN_FROM = 12  # a secret shorter than this shows none of its characters


class ChannelSpec(msgspec.Struct, kw_only=True):
    """What a channel is. `models` maps offered names to the upstream's; `timeouts` are seconds by name.

    `costs` has, by offered name, what the provider charges us, as a price card is written.

    `rpm`, `tpm` and `parallel` are what the provider allows: requests and tokens a minute, calls at once; None for any.
    `preset`, `headers`, `parameters`, `capabilities`, `retry_on` and `breaker` are as the table has them.

    `private` is whether the address may be a private one; only the operator's file and the demo may say so.
    """

    name: str
    base_url: str
    models: Mapping[str, str]
    preset: str = "custom"
    protocol: str = Protocol.OPENAI.value
    priority: int = 0
    weight: int = 1
    on_hangup: str = OnHangup.CANCEL.value
    timeouts: Mapping[str, float] = msgspec.field(default_factory=dict)
    costs: Mapping[str, Any] = msgspec.field(default_factory=dict)
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    proxy: str = ""
    headers: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    capabilities: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    retry_on: Sequence[str] = msgspec.field(default_factory=retried)
    breaker: Mapping[str, float] = msgspec.field(default_factory=dict)
    auto_disable: bool = True
    private: bool = False
    enabled: bool = True


def spec_of(channel: Channel) -> ChannelSpec:
    return ChannelSpec(**{name: getattr(channel, name) for name in ChannelSpec.__struct_fields__})


def dress_of(channel: Channel) -> Dress:
    """How its requests look on the wire."""
    return dress.of(
        channel.preset,
        channel.protocol,
        headers=channel.headers,
        parameters=channel.parameters,
        proxy=channel.proxy,
        site=settings.BASE_URL,
    )


# ---- checks ---------------------------------------------------------------------------------------------------------


def check(spec: ChannelSpec) -> None:
    """Raises ValidationError with a message for each field that cannot be."""
    errors: dict[str, Any] = {}
    if not spec.name.strip() or len(spec.name) > 100 or not spec.name.isprintable():
        errors["name"] = _("A name of 1 to 100 printable characters is needed.")
    if spec.protocol not in Protocol.values:
        errors["protocol"] = _("Unknown protocol.")
    if spec.on_hangup not in OnHangup.values:
        errors["on_hangup"] = _("Either cancel or drain.")
    if not 0 <= spec.weight <= HEAVIEST:
        errors["weight"] = _("A weight is a whole number from 0 to 1,000,000.")
    if abs(spec.priority) > HEAVIEST:
        errors["priority"] = _("A priority is a whole number of at most seven digits.")
    problems = {
        "base_url": url_problem(spec.base_url),
        "models": _models_problem(spec.models),
        "timeouts": _timeouts_problem(spec.timeouts),
        "costs": _value_problem(spec.costs) or _costs_problem(spec),
        "preset": _preset_problem(spec),
        "proxy": proxy_problem(spec.proxy),
        "headers": _headers_problem(spec.headers),
        "parameters": _value_problem(spec.parameters) or _parameters_problem(spec.parameters),
        "capabilities": _value_problem(spec.capabilities) or _capabilities_problem(spec),
        "retry_on": _retry_problem(spec.retry_on),
        "breaker": _breaker_problem(spec.breaker),
    }
    errors |= {field: problem for field, problem in problems.items() if problem} | keys.rate_problems(spec)
    if "base_url" not in errors and not spec.private and is_private(spec.base_url):
        errors["base_url"] = _("This is a private address. Only the operator's file (manage.py apply) may name one.")
    if spec.proxy and "proxy" not in errors and not spec.private and is_private(spec.proxy):
        errors["proxy"] = _("This is a private address. Only the operator's file (manage.py apply) may name one.")
    if errors:
        raise ValidationError(errors)


def url_problem(url: str) -> Any:
    """Why this is no base URL, or None."""
    if url == demo.ADDRESS:
        return None
    if len(url) > 500 or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        return _("A URL has no spaces or control characters, only ASCII, and at most 500 characters.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return _("This is not a URL.")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return _("A base URL begins with http:// or https:// and names a host.")
    if "@" in parts.netloc:
        return _("A base URL holds no user and no password; credentials are given apart.")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return _("A base URL has no query and no fragment.")
    return None


def is_private(url: str) -> bool:
    """Whether the address is the operator's own: the demo, a private IP, or a name that resolves to one now.

    A name that cannot be resolved counts by its form. What is decided here is only what may be saved: a public
    channel's addresses are vetted again whenever a connection is opened.
    """
    host = urlsplit(url).hostname or ""
    if url == demo.ADDRESS:
        return True
    try:
        return not upstream.is_public(str(ipaddress.ip_address(host.split("%")[0])))
    except ValueError:
        pass
    if "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa")):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(not upstream.is_public(str(address[4][0])) for address in found)


def _models_problem(models: Mapping[str, str]) -> Any:
    for name in [*models.keys(), *models.values()]:
        if not name.strip() or name != name.strip() or len(name) > 200 or not name.isprintable():
            return _("A model's name has 1 to 200 printable characters and no space at either end.")
    return None


def _timeouts_problem(timeouts: Mapping[str, float]) -> Any:
    known = Timeouts.__struct_fields__
    for name, seconds in timeouts.items():
        if name not in known:
            return _("Timeouts are %(known)s.") % {"known": ", ".join(known)}
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not SHORTEST_WAIT <= seconds <= LONGEST_WAIT
        ):
            return _("A timeout is a number of seconds, at least 0.001 and at most a day.")
    return None


def _costs_problem(spec: ChannelSpec) -> Any:
    for name, written in spec.costs.items():
        if name not in spec.models:
            return _("The channel does not serve “%(name)s”, so it has no cost of it.") % {"name": name[:200]}
        if not isinstance(written, dict):
            return _("A cost is written as prices by name.")
        try:
            prices.parse_card(written)
        except money.InvalidAmount as error:
            return f"{name[:200]}: {error}"
    return None


def _preset_problem(spec: ChannelSpec) -> Any:
    row = presets.BY_NAME.get(spec.preset)
    if row is None:
        return _("There is no provider “%(name)s”.") % {"name": spec.preset[:100]}
    if row.unavailable:
        return gettext(row.unavailable)
    if spec.protocol in Protocol.values and spec.protocol not in row.protocols:
        return _("%(provider)s speaks %(protocols)s.") % {"provider": row.label, "protocols": ", ".join(row.protocols)}
    return None


def proxy_problem(proxy: str) -> Any:
    """Why calls cannot go through this proxy, or None."""
    if not proxy:
        return None
    if len(proxy) > LONGEST_PROXY:
        return _("A proxy's address has at most 300 characters.")
    try:
        parts = urlsplit(proxy)
    except ValueError:
        return _("This is not a URL.")
    if parts.scheme.startswith("socks"):
        return _("SOCKS is not supported: put an HTTP proxy in front of it.")
    if parts.path not in ("", "/"):
        return _("A proxy is http://host:port.")
    if "@" in parts.netloc:
        return _("A proxy with a password is not supported: let it know this machine by its address.")
    return url_problem(proxy)


def _headers_problem(headers: Mapping[str, str | None]) -> Any:
    seen: set[str] = set()
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in dress.FIXED_HEADERS or name.lower() in seen:
            return _("“%(name)s” cannot be set as a header, or is there twice.") % {"name": name[:100]}
        seen.add(name.lower())
        if value is not None and not (
            isinstance(value, str) and len(value) <= 2000 and all(32 <= ord(c) < 127 for c in value)
        ):
            return _("A header's value is a text of printable ASCII characters, or null.")
    return None


def is_storable(value: Any, *, depth: int = 0) -> bool:
    """Whether every database keeps this as JSON, and every provider reads it: finite numbers of 64 bits, whole
    characters other than NUL, at most DEEPEST levels."""
    if isinstance(value, str):
        return not any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, int | float):
        return -(2**63) <= value < 2**64 if isinstance(value, int) else math.isfinite(value)
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    return value is None or (depth < DEEPEST and all(is_storable(item, depth=depth + 1) for item in value))


def _value_problem(values: Mapping[str, Any]) -> Any:
    if is_storable(values):
        return None
    return _("Numbers have at most 64 bits, texts no NUL and no half a character, and values at most 32 levels.")


def _parameters_problem(parameters: Mapping[str, Any]) -> Any:
    if name := quirks.forbidden(parameters):
        return _("“%(name)s” cannot be overridden: what a call may cost is made from it.") % {"name": name}
    if len(msgspec.json.encode(parameters)) > 16 * 1024:
        return _("That is too much.")
    return None


def _capabilities_problem(spec: ChannelSpec) -> Any:
    for name, written in spec.capabilities.items():
        if name not in spec.models:
            return _("The channel does not serve “%(name)s”.") % {"name": name[:200]}
        try:
            capabilities.corrected(Capabilities(), written)
        except (msgspec.ValidationError, TypeError) as error:
            return f"{name[:200]}: {error}"
    return None


def _retry_problem(kinds: Sequence[str]) -> Any:
    if isinstance(kinds, list | tuple) and set(kinds) <= set(retried()):
        return None
    return _("The kinds of failure are %(known)s.") % {"known": ", ".join(retried())}


def _breaker_problem(breaker: Mapping[str, float]) -> Any:
    try:
        found = msgspec.convert(breaker, Tolerance)
    except msgspec.ValidationError as error:
        return str(error)
    whole = 0 <= found.failures <= 1000 and 1 <= found.calls <= 1000
    if not whole or not all(0 <= s <= 86400 for s in (found.within, found.open, found.longest, found.cool_down)):
        return _("These numbers are too small or too large.")
    return None


# ---- channels -------------------------------------------------------------------------------------------------------


@transaction.atomic
def save_channel(
    channel: Channel | None, spec: ChannelSpec, *, secrets: Sequence[str] | Mapping[str, int] | None = None
) -> Channel:
    """Makes (where `channel` is None) or changes a channel. Raises ValidationError. No `base_url` is the provider's.

    `secrets`, as a mapping with the weight of each, replaces its credentials; None keeps them, unless the address
    changed, or the proxy that hears what is sent to it: then they are removed.
    """
    spec.base_url = (spec.base_url or presets.base_url(spec.preset, spec.protocol)).rstrip("/")
    spec.proxy = spec.proxy.rstrip("/")
    check(spec)
    namesake = Channel.objects.filter(name=spec.name).first()
    if namesake is not None and namesake != channel:
        raise ValidationError({"name": _("There is a channel with this name.")})
    moved = channel is not None and is_moved(spec_of(Channel.objects.get(pk=channel.pk)), spec)
    channel = channel or Channel()
    for name in ChannelSpec.__struct_fields__:
        value = getattr(spec, name)
        setattr(channel, name, value if isinstance(value, str) else msgspec.to_builtins(value))
    for name in rates.FIELDS:
        setattr(channel, name, getattr(spec, name) or None)
    if moved:
        channel.disabled_at, channel.disabled_reason = None, ""
    channel.save()
    if secrets is not None:
        set_credentials(channel, secrets)
    elif moved and channel.credentials.exists():
        set_credentials(channel, ())
        disable(channel, reason=LOST)
    revisions.bump(revisions.CHANNELS)
    return channel


def is_moved(before: ChannelSpec, after: ChannelSpec) -> bool:
    """Whether what is sent to the channel goes elsewhere than it did. A proxy reads what is not encrypted."""
    heard = after.proxy != before.proxy and not after.base_url.startswith("https://")
    return before.base_url != after.base_url or heard


@transaction.atomic
def set_enabled(channel: Channel, *, enabled: bool) -> None:
    """Whether calls are sent there."""
    Channel.objects.filter(pk=channel.pk).update(enabled=enabled)
    channel.enabled = enabled
    revisions.bump(revisions.CHANNELS)


@transaction.atomic
def set_default(endpoint: str, model: str | None) -> None:
    """The model of the endpoint's calls that name none; None takes it away."""
    if model is None:
        DefaultModel.objects.filter(endpoint=endpoint).delete()
    else:
        DefaultModel.objects.update_or_create(endpoint=endpoint, defaults={"model": model})
    revisions.bump(revisions.CHANNELS)


# ---- credentials ----------------------------------------------------------------------------------------------------


def secret_problem(secret: str) -> Any:
    """Why this cannot be sent as a credential, or None. Says nothing of the value."""
    if not secret or len(secret) > 4096 or not all(33 <= ord(c) < 127 for c in secret):
        return _("A credential has 1 to 4,096 visible ASCII characters and no spaces.")
    return None


def shown(secret: str) -> str:
    """The last four characters, or nothing of a secret that is short."""
    return secret[-4:] if len(secret) >= SHOWN_FROM else ""


def opened(credential: Credential) -> str | None:
    """The secret, to compare with. None where the installation's keys do not open it."""
    try:
        return vault.decrypt(bytes(credential.secret), row=credential.uid)
    except vault.Undecryptable:
        return None


@transaction.atomic
def add_credentials(channel: Channel, secrets: Sequence[str] | Mapping[str, int]) -> None:
    """Stores what is not stored yet, encrypted, and sets the weights that a mapping has. A channel that was disabled by
    itself for want of a credential is in use again. Raises ValidationError."""
    weights = dict(secrets) if isinstance(secrets, Mapping) else {}
    for secret in secrets:
        if problem := secret_problem(secret):
            raise ValidationError({"secrets": problem})
        if not 0 <= weights.get(secret, 1) <= HEAVIEST:
            raise ValidationError({"secrets": _("A weight is a whole number from 0 to 1,000,000.")})
    known = {opened(credential): credential for credential in channel.credentials.all()}
    for secret in dict.fromkeys(secrets):
        row = known.get(secret)
        if row is None:
            row = Credential(channel=channel, last_four=shown(secret), weight=weights.get(secret, 1))
            row.secret = vault.encrypt(secret, row=row.uid)
            row.save()
            enable(channel)
        elif secret in weights and row.weight != weights[secret]:
            Credential.objects.filter(pk=row.pk).update(weight=weights[secret])
    revisions.bump(revisions.CHANNELS)


@transaction.atomic
def set_credentials(channel: Channel, secrets: Sequence[str] | Mapping[str, int]) -> None:
    """Makes these the channel's credentials: adds what is missing, removes the others. Raises ValidationError."""
    add_credentials(channel, secrets)
    for credential in channel.credentials.all():
        if opened(credential) not in secrets:
            credential.delete()
    revisions.bump(revisions.CHANNELS)


@transaction.atomic
def set_credential(credential: Credential, *, enabled: bool, weight: int) -> None:
    """What the operator says of a stored credential."""
    Credential.objects.filter(pk=credential.pk).update(enabled=enabled, weight=weight)
    revisions.bump(revisions.CHANNELS)


@transaction.atomic
def remove_credential(credential: Credential) -> None:
    """A channel that loses its last one is disabled, not called without: that its provider wants none, a probe or the
    operator has to say."""
    credential.delete()
    if not Credential.objects.filter(channel=credential.channel_id).exists():
        disable(credential.channel, reason=LOST)
    revisions.bump(revisions.CHANNELS)


# ---- disabled by themselves -----------------------------------------------------------------------------------------

Disabled = Channel | Credential


@transaction.atomic
def disable(row: Disabled, *, reason: str) -> bool:
    """Takes out of use what its provider refuses, until a probe or the operator brings it back. Whether it was in use.

    What is refused again soon after a probe had enabled it has been failing all the time."""
    now = timezone.now()
    again = Q(probed_at__gte=now - RELAPSE)
    since = Case(When(again, then=Coalesce("failing_since", now)), default=now, output_field=DateTimeField())
    found = type(row)._default_manager.filter(pk=row.pk, disabled_at__isnull=True)
    if not found.update(
        disabled_at=now, disabled_reason=reason[:200] or "refused", failing_since=since, probed_at=None
    ):
        return False
    revisions.bump(revisions.CHANNELS)
    return True


@transaction.atomic
def enable(row: Disabled, *, by_probe: bool = False) -> bool:
    """Puts back into use what had been disabled by itself. Whether it had been."""
    found = type(row)._default_manager.filter(pk=row.pk, disabled_at__isnull=False)
    if not found.update(disabled_at=None, disabled_reason="", probed_at=timezone.now() if by_probe else None):
        return False
    revisions.bump(revisions.CHANNELS)
    return True


def claim_probe(row: Disabled) -> bool:
    """Whether it is this worker's to probe now: of several that see the same row, one."""
    found = type(row)._default_manager.filter(pk=row.pk, probed_at=row.probed_at)
    return bool(found.update(probed_at=timezone.now()))
