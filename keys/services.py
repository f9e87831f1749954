"""Keys: issue, pause, revoke, authenticate. `authenticate` is the only way to get a Principal."""

import datetime as dt
import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.db.models import TextChoices
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from msgspec import UNSET, UnsetType

from billing import budgets, connections, groups, ledger, money, plans, revisions
from billing.models import BudgetOwner, Window
from billing.plans import Paying
from keys import limits, rates, tokens
from keys.models import ApiKey, BillingMode, KeyState, KeyType, PaymentType

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Principal(msgspec.Struct, frozen=True):
    """Who is calling and what that key may do. `models` and `endpoints` empty: all. Times are Unix seconds.

    `multiplier` is what every price is multiplied by for this wallet, in parts per million. `scopes` are the rate
    limits of the key and of its team, empty where there are none. `on_credit`: its calls may use the wallet's credit;
    `plans` pay before the wallet.
    """

    key: int
    team: int
    account: int
    multiplier: int
    budgets: tuple[int, ...]
    billing: str
    state: str
    expires_at: float | None
    models: frozenset[str]
    endpoints: frozenset[str]
    networks: tuple[Network, ...]
    scopes: tuple[limits.Scope, ...] = ()
    type: str = KeyType.STANDARD.value
    on_credit: bool = False
    plans: tuple[Paying, ...] = ()
    group: int | None = None  # whose own prices count before the list's

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models

    def may_call(self, endpoint: str) -> bool:
        return not self.endpoints or endpoint in self.endpoints

    def may_come_from(self, address: str) -> bool:
        return not self.networks or _within(address, self.networks)


class InvalidKey(Exception):
    """No key, or none that is in force. `masked` is fit for a message."""

    def __init__(self, masked: str, why: str) -> None:
        super().__init__(why)
        self.masked = masked
        self.why = why


def digest(token: str) -> str:
    """What is stored of a key: its HMAC-SHA256 under the installation's pepper, in hexadecimal."""
    inner, outer = _keyed_hashes(settings.KEY_PEPPER)
    inner, outer = inner.copy(), outer.copy()
    inner.update(token.encode())
    outer.update(inner.digest())
    return str(outer.hexdigest())


@lru_cache(maxsize=4)
def _keyed_hashes(pepper: str) -> tuple[Any, Any]:
    """The two SHA-256 states of an HMAC (RFC 2104) with the key mixed in; the library would do that for every call."""
    block = pepper.encode()
    if len(block) > 64:
        block = hashlib.sha256(block).digest()
    block = block.ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


# ---- authentication -------------------------------------------------------------------------------------------------

KNOWN_AT_MOST = 50_000
UNKNOWN_AT_MOST = 10_000
UNKNOWN_FOR = 5.0  # seconds that an unknown key is remembered, so that guessing does not reach the database


class _Cache:
    """Principals by digest, dropped when their key changes, and the oldest where there are too many."""

    def __init__(self) -> None:
        self.known: OrderedDict[str, Principal] = OrderedDict()
        self.unknown: OrderedDict[str, float] = OrderedDict()
        self.revision: int | None = None
        self.cleared = 0

    def remember(self, key: str, principal: Principal) -> None:
        self.unknown.pop(key, None)
        self.known[key] = principal
        while len(self.known) > KNOWN_AT_MOST:
            self.known.popitem(last=False)

    def reject(self, key: str) -> None:
        self.unknown[key] = time.monotonic() + UNKNOWN_FOR
        while len(self.unknown) > UNKNOWN_AT_MOST:
            self.unknown.popitem(last=False)

    def is_unknown(self, key: str) -> bool:
        return self.unknown.get(key, 0.0) > time.monotonic()

    def clear(self) -> None:
        self.cleared += 1
        self.known.clear()
        self.unknown.clear()


_cache = _Cache()


async def authenticate(token: str | None) -> Principal:
    """The key's principal. Raises InvalidKey for a missing, malformed, unknown, paused, revoked or expired key.

    In the steady state nothing is read; a key that this process has not seen costs one query.
    """
    if not token:
        raise InvalidKey("", "missing")
    key = digest(token)
    principal = _cache.known.get(key)
    if principal is None:
        if not tokens.is_genuine(token) or _cache.is_unknown(key):
            raise InvalidKey(tokens.mask(token), "unknown")
        as_of = _cache.revision, _cache.cleared
        principal = await connections.read(_read, key, within=connections.READ_WITHIN)
        if principal is None:
            _cache.reject(key)
            raise InvalidKey(tokens.mask(token), "unknown")
        # Else it may have changed since it was read, and nobody would drop it.
        if as_of == (_cache.revision, _cache.cleared):
            _cache.remember(key, principal)
    if principal.state != KeyState.ACTIVE:
        raise InvalidKey(tokens.mask(token), principal.state)
    if principal.expires_at is not None and principal.expires_at <= time.time():
        raise InvalidKey(tokens.mask(token), "expired")
    return principal


def management_key(token: str, *, address: str) -> ApiKey:
    """The key of a program that calls the management API from this address; read from the database each time.

    Raises InvalidKey; `why` is also `type` for a key that is not for management, and `address`.
    """
    row = ApiKey.objects.select_related("team").filter(digest=digest(token)).first() if token else None
    masked = tokens.mask(token) if token else ""
    if row is None or not tokens.is_genuine(token):
        raise InvalidKey(masked, "unknown")
    if row.state != KeyState.ACTIVE:
        raise InvalidKey(masked, row.state)
    if row.expires_at is not None and row.expires_at <= timezone.now():
        raise InvalidKey(masked, "expired")
    if row.type != KeyType.MANAGEMENT:
        raise InvalidKey(masked, "type")
    if row.networks and not _within(address, _networks(row)):
        raise InvalidKey(masked, "address")
    return row


def _read(key: str) -> Principal | None:
    row = ApiKey.objects.select_related("team").filter(digest=key).first()
    return _principal(row) if row else None


def _principal(row: ApiKey) -> Principal:
    wallet = ledger.wallet_of(row.team_id)
    return Principal(
        key=row.pk,
        team=row.team_id,
        account=wallet.pk,
        multiplier=groups.multiplier_of(wallet),
        budgets=budgets.ids_of(key=row.pk, team=row.team_id),
        billing=row.billing,
        state=row.state,
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        models=frozenset(row.models),
        endpoints=frozenset(row.endpoints),
        networks=_networks(row),
        scopes=_scopes(row),
        type=row.type,
        on_credit=row.payment == PaymentType.POSTPAID,
        plans=plans.of_team(row.team_id) if row.payment == PaymentType.PLAN else (),
        group=wallet.group_id,
    )


def _networks(row: ApiKey) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in row.networks)


def _within(address: str, networks: Iterable[Network]) -> bool:
    """Whether the address is in one of them; an IPv4 address may be written as an IPv6 one."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


def _scopes(row: ApiKey) -> tuple[limits.Scope, ...]:
    team = team_rates(row.team)
    found = (
        limits.scope(limits.Owner.KEY, row.pk, rpm=row.rpm, tpm=row.tpm, parallel=row.parallel),
        limits.scope(limits.Owner.TEAM, row.team_id, rpm=team["rpm"], tpm=team["tpm"], parallel=team["parallel"]),
    )
    return tuple(scope for scope in found if scope is not None)


def team_rates(team: Any) -> dict[str, int | None]:
    """The rate limits in force for a team: its own, else the installation's defaults; None for none."""
    defaults = {"rpm": settings.DEFAULT_RPM, "tpm": settings.DEFAULT_TPM, "parallel": settings.DEFAULT_PARALLEL}
    return {name: getattr(team, name) or defaults[name] or None for name in rates.FIELDS}


def forget_all() -> None:
    """Drops every key of this process's memory, such as when a team's budgets or a price group have changed."""
    _cache.clear()


def forget_changed(revision: int) -> None:
    """Drops the keys that changed since this process last looked. Reads; called by the snapshots' poller."""
    seen, _cache.revision = _cache.revision, revision
    if seen is None or revision < seen:
        _cache.clear()
    elif revision > seen:
        _cache.unknown.clear()
        try:
            changed = list(ApiKey.objects.filter(revision__gt=seen).values_list("digest", flat=True))
        except DatabaseError:
            _cache.revision = None  # which keys changed is not known, so the next look drops all of them
            raise
        for key in changed:
            _cache.known.pop(key, None)


# ---- administration -------------------------------------------------------------------------------------------------


class Spec(msgspec.Struct, kw_only=True):
    """What a key may do. `quota` is nano-units in each `window`, None for no cap, UNSET for the caps that it has.

    A `window` that is UNSET is that of the cap that the key has, in total where it has none.
    `rpm`, `tpm` and `parallel` are rate limits: requests and tokens a minute, calls at once; 0 or None for none.
    """

    name: str
    type: str = KeyType.STANDARD.value
    payment: str = PaymentType.PREPAID.value
    billing: str = BillingMode.METERED.value
    quota: int | UnsetType | None = None
    window: str | UnsetType = UNSET
    expires_at: dt.datetime | None = None
    models: Sequence[str] = ()
    endpoints: Sequence[str] = ()
    networks: Sequence[str] = ()
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None


_CHOICES: dict[str, tuple[type[TextChoices], Any]] = {
    "type": (KeyType, _("Unknown key type.")),
    "payment": (PaymentType, _("Unknown payment type.")),
    "billing": (BillingMode, _("Unknown billing mode.")),
    "window": (Window, _("Unknown window.")),
}


def check(spec: Spec, *, known_models: set[str] | None = None, key: ApiKey | None = None) -> dict[str, Any]:
    """The spec's fields as they are stored. Raises ValidationError with a message for each field.

    What the `key` has already is not judged again: its expiry may have come, and its models may have gone.
    """
    errors: dict[str, Any] = {}
    for field, (choices, unknown) in _CHOICES.items():
        if getattr(spec, field) not in (*choices.values, UNSET):
            errors[field] = unknown
    if not spec.name.strip() or len(spec.name) > 100:
        errors["name"] = _("A name of 1 to 100 characters is needed.")
    if isinstance(spec.quota, int) and not 0 < spec.quota < money.LIMIT:
        errors["quota"] = _("A quota is more than zero; leave it empty for none.")
    unchanged = key is not None and spec.expires_at == key.expires_at
    if spec.expires_at is not None and not unchanged and spec.expires_at <= timezone.now():
        errors["expires_at"] = _("The expiry lies in the past.")
    if problem := _models_problem(spec, known_models, key):
        errors["models"] = problem
    try:
        networks = [str(_network(text)) for text in spec.networks]
    except ValidationError as error:
        networks, errors["networks"] = [], error
    errors |= rate_problems(spec)
    if errors:
        raise ValidationError(errors)
    return {
        "name": spec.name.strip(),
        "type": spec.type,
        "payment": spec.payment,
        "billing": spec.billing,
        "expires_at": spec.expires_at,
        "models": list(spec.models),
        "endpoints": list(spec.endpoints),
        "networks": networks,
        **{name: getattr(spec, name) or None for name in rates.FIELDS},
    }


def rate_problems(owner: Any) -> dict[str, Any]:
    """What is wrong with the rate limits of whatever has them, by field."""
    wrong = _("A limit is a whole number above zero, at most 1,000,000,000; leave it empty for none.")
    return {name: wrong for name in rates.FIELDS if not 0 <= (getattr(owner, name) or 0) <= rates.LARGEST}


def _models_problem(spec: Spec, known: set[str] | None, key: ApiKey | None) -> Any:
    if spec.type == KeyType.RESTRICTED and not (spec.models or spec.endpoints):
        return _("A restricted key names the models or endpoints that it may use.")
    if known is not None and (unknown := sorted(set(spec.models) - known - set(key.models if key else ()))):
        return _("Unknown models: %(names)s.") % {"names": ", ".join(unknown)[:200]}
    return None


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise ValidationError(_("“%(text)s” is not an IP address or range.") % {"text": text[:60]}) from error


@transaction.atomic
def issue(
    *, team_id: int, spec: Spec, created_by: int | None = None, known_models: set[str] | None = None, actor: str = ""
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is not stored and cannot be had again. Raises ValidationError."""
    fields = check(spec, known_models=known_models)
    token = tokens.new(test=spec.type == KeyType.TEST)
    prefix, last_four = tokens.shown_parts(token)
    key = ApiKey.objects.create(
        team_id=team_id,
        created_by_id=created_by,
        prefix=prefix,
        last_four=last_four,
        digest=digest(token),
        revision=revisions.bump(revisions.KEYS),
        **fields,
    )
    _set_quota(key, spec, actor)
    return key, token


@transaction.atomic
def change(key: ApiKey, spec: Spec, *, known_models: set[str] | None = None, actor: str = "") -> ApiKey:
    """Other limits for a key that keeps its secret, type and payment. Raises ValidationError.

    With at most one cap `quota` and `window` say what it is from now on. Of several, the one of the `window` that is
    named becomes `quota`, and the others stay.
    """
    fields = check(spec, known_models=known_models, key=key)
    _write(key, **fields)
    _set_quota(key, spec, actor)
    return key


def _set_quota(key: ApiKey, spec: Spec, actor: str) -> None:
    """Called with the revision bumped: of two changes at once the second one finds the caps of the first."""
    if spec.quota is not UNSET or spec.window is not UNSET:
        standing = {budget.window: budget.cap for budget in budgets.of_keys([key.pk]).get(key.pk, [])}
        _set_caps(key, _asked_of_several(spec) if len(standing) > 1 else _asked_of_one(spec, standing), actor)


def _asked_of_several(spec: Spec) -> dict[str, int | None]:
    """The cap that changes of those that the key has. Raises ValidationError where nobody can tell which it is."""
    if isinstance(spec.window, UnsetType) or isinstance(spec.quota, UnsetType):
        missing = "window" if isinstance(spec.window, UnsetType) else "quota"
        raise ValidationError({missing: _("The key has quotas for several windows: name the window and its quota.")})
    return {spec.window: spec.quota}


def _asked_of_one(spec: Spec, standing: Mapping[str, int]) -> dict[str, int | None]:
    """The only cap that the key is to have, and that the window which it leaves has none."""
    before = next(iter(standing), Window.TOTAL.value)
    if isinstance(spec.quota, UnsetType) and not standing:
        raise ValidationError({"window": _("The key has no quota: name one for this window.")})
    window = before if isinstance(spec.window, UnsetType) else spec.window
    return {before: None, window: standing[before] if isinstance(spec.quota, UnsetType) else spec.quota}


def _set_caps(key: ApiKey, caps: Mapping[str, int | None], actor: str) -> None:
    zone = key.team.time_zone
    budgets.set_caps(owner=BudgetOwner.KEY, owner_id=key.pk, caps=caps, zone=zone, actor=actor)


@transaction.atomic
def set_caps(key: ApiKey, caps: Mapping[str, int | None], *, actor: str) -> None:
    """The key's caps by window, nano-units; None for none, windows that are not named stay. In force in a second.

    The revision is bumped first: of two first caps at once the second one finds the budget that the first has made.
    """
    _write(key)
    _set_caps(key, caps, actor)


def pause(key: ApiKey) -> None:
    """Stops the key until `resume`; a revoked key stays revoked."""
    if key.state == KeyState.ACTIVE:
        _write(key, state=KeyState.PAUSED)


def resume(key: ApiKey) -> None:
    if key.state == KeyState.PAUSED:
        _write(key, state=KeyState.ACTIVE)


def revoke(key: ApiKey) -> None:
    """Stops the key for good, within a second on every process."""
    if key.state != KeyState.REVOKED:
        _write(key, state=KeyState.REVOKED, revoked_at=timezone.now())


@transaction.atomic
def _write(key: ApiKey, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(key, name, value)
    key.revision = revisions.bump(revisions.KEYS)
    key.save(update_fields=[*fields, "revision"])
