"""Merges the operator's file into the database, by name, in one transaction, and tells each difference in a line.

What the file does not say of a thing that it names stays as it is, except that whatever it names is in use unless it
says `enabled: false` or `active: false`. Applying the same file twice changes nothing the second time.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from msgspec import UNSET

from billing import catalog, groups, prices
from billing.models import CatalogModel, ModelKind, PriceGroup
from billing.prices import PriceCard
from portal.configuration.nodes import InvalidFile, Problem
from portal.configuration.reader import File, FileChannel, FileGroup, FileModel, Stored
from relay import services, urls
from relay.channels import presets
from relay.models import Channel, Credential, DefaultModel
from relay.services import ChannelSpec

# Endpoints of the contract whose routes are still to come; a default for them is stored, and said to be.
LATER_ENDPOINTS = frozenset({"images.generations", "images.edits", "audio.speech", "videos"})


class Outcome(msgspec.Struct):
    """The differences, one a line, and what the operator should know besides."""

    changes: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


def apply(file: File, *, actor: str, prune: bool = False, dry_run: bool = False) -> Outcome:
    """Carries the file out, or finds out what would change. Raises InvalidFile; then nothing is written."""
    merge = _Merge(actor)
    with transaction.atomic():
        for group in file.groups or ():
            merge.group(group)
        for model in file.models or ():
            merge.model(model)
        for channel in file.channels or ():
            merge.channel(channel)
        merge.defaults(file.defaults or {})
        if prune:
            merge.prune(file)
        if merge.problems:
            raise InvalidFile(merge.problems)
        merge.note(file)
        transaction.set_rollback(dry_run)
    return merge.outcome


class _Merge:
    def __init__(self, actor: str) -> None:
        self.actor = actor
        self.outcome = Outcome()
        self.problems: list[Problem] = []
        self.known = catalog.rows()
        self.groups = groups.rows()

    def _say(self, sign: str, subject: str, detail: str = "") -> None:
        self.outcome.changes.append(f"{sign} {subject}: {detail}" if detail else f"{sign} {subject}")

    def _wrong(self, at: FileChannel | FileModel | FileGroup, field: str, message: str) -> None:
        self.problems.append(Problem(f"{at.path}.{field}" if field else at.path, message, at.line))

    # -- models

    def model(self, wanted: FileModel) -> None:
        row = self.known.get(wanted.name)
        if wanted.valid_from is not UNSET and wanted.price is UNSET:
            self._wrong(wanted, "valid_from", "this is when a price takes effect, and there is no price")
            return
        fields = {
            name: value
            for name in ("kind", "provider", "description", "context_window", "max_output", "capabilities", "active")
            if (value := getattr(wanted, name)) is not UNSET
        }
        if row is None:
            row = self.known[wanted.name] = catalog.save_model(name=wanted.name, **fields)
            self._say("+", f"model {wanted.name}", str(ModelKind(row.kind).value))
        else:
            changed = {name: value for name, value in fields.items() if getattr(row, name) != value}
            for name, value in changed.items():
                self._say("~", f"model {wanted.name}", f"{name} {_shown(getattr(row, name))} → {_shown(value)}")
            if changed:
                row = self.known[wanted.name] = catalog.save_model(name=wanted.name, **changed)
        self._price(row, wanted)
        self._group_prices(row, wanted)

    def _price(self, row: CatalogModel, wanted: FileModel) -> None:
        """The file's prices in their order. One whose moment has passed counts from now if it was never written."""
        planned: list[tuple[dt.datetime | None, PriceCard]] = []
        if not isinstance(wanted.price, msgspec.UnsetType):
            first = None if isinstance(wanted.valid_from, msgspec.UnsetType) else wanted.valid_from
            planned.append((first, wanted.price))
        changes = [] if isinstance(wanted.price_changes, msgspec.UnsetType) else wanted.price_changes
        if changes and planned and (first := planned[0][0]) and changes[0].at <= first:
            self._wrong(wanted, "price_changes", "a change comes after the price's own valid_from")
            return
        now = timezone.now()
        if due := [change.price for change in changes if change.at <= now]:
            planned = [(None, due[-1])]
        planned += [(change.at, change.price) for change in changes if change.at > now]
        for moment, card in planned:
            self._set_price(row, wanted, card, moment)

    def _set_price(self, row: CatalogModel, wanted: FileModel, card: PriceCard, moment: dt.datetime | None) -> None:
        before = catalog.card_at(row, moment) if moment else catalog.current_card(row)
        try:
            version = catalog.set_price(row, card, actor=self.actor, valid_from=moment)
        except ValueError as error:
            self._wrong(wanted, "valid_from" if moment else "price", str(error))
            return
        if version is not None:
            since = f" from {moment.isoformat()}" if moment else ""
            old = f"{prices.describe(before)} → " if before else ""
            self._say("~", f"model {wanted.name}", f"price {old}{prices.describe(card)}{since}")

    def _group_prices(self, row: CatalogModel, wanted: FileModel) -> None:
        """As the list's prices: of those whose moment has passed the last one counts, from now."""
        entries = [] if isinstance(wanted.group_prices, msgspec.UnsetType) else wanted.group_prices
        now = timezone.now()
        for name in dict.fromkeys(entry.group for entry in entries):
            if (group := self.groups.get(name)) is None:
                self._wrong(wanted, "group_prices", f"there is no group {name!r}")
                continue
            mine = [entry for entry in entries if entry.group == name]
            due = [entry for entry in mine if entry.at is None or entry.at <= now][-1:]
            for entry in [*due, *(entry for entry in mine if entry.at is not None and entry.at > now)]:
                self._set_group_price(row, wanted, group, entry.price, None if entry in due else entry.at)

    def _set_group_price(
        self,
        row: CatalogModel,
        wanted: FileModel,
        group: PriceGroup,
        card: PriceCard | None,
        moment: dt.datetime | None,
    ) -> None:
        before = catalog.card_at(row, moment or timezone.now(), group=group)
        try:
            version = catalog.set_price(row, card, actor=self.actor, valid_from=moment, group=group)
        except ValueError as error:
            self._wrong(wanted, "group_prices", str(error))
            return
        if version is not None:
            old, new = (prices.describe(found) if found else "the list's" for found in (before, card))
            since = f" from {moment.isoformat()}" if moment else ""
            self._say("~", f"model {wanted.name}", f"price for group {group.name} {old} → {new}{since}")

    # -- groups

    def group(self, wanted: FileGroup) -> None:
        row = self.groups.get(wanted.name)
        if isinstance(wanted.multiplier, msgspec.UnsetType):
            if row is None:
                self._wrong(wanted, "multiplier", "a new group needs this")
            return
        if row is not None and row.multiplier == wanted.multiplier:
            return
        new = prices.write_multiplier(wanted.multiplier)
        self.groups[wanted.name] = groups.save(name=wanted.name, multiplier=wanted.multiplier)
        if row is None:
            self._say("+", f"group {wanted.name}", f"multiplier {new}")
        else:
            old = prices.write_multiplier(row.multiplier)
            self._say("~", f"group {wanted.name}", f"multiplier {old} → {new}")

    # -- channels

    def channel(self, wanted: FileChannel) -> None:
        row = Channel.objects.filter(name=wanted.name).first()
        known = wanted.preset is not UNSET  # which has its own address, and protocols of which the first is meant
        needed = ("models",) if known else ("protocol", "base_url", "models")
        missing = [name for name in needed if getattr(wanted, name) is UNSET]
        if row is None and missing:
            self._wrong(wanted, missing[0], "a new channel needs this")
            return
        before = services.spec_of(row) if row else None
        after = _merged(before, wanted)
        try:
            secrets = _secrets(row, wanted, moved=before is not None and services.is_moved(before, after))
        except _Refused as refused:
            self._wrong(wanted, "api_keys", str(refused))
            return
        lines = [*_spec_lines(before, after), *_secret_lines(row, secrets)] if before else []
        if before and not lines:
            return
        try:
            services.save_channel(row, after, secrets=secrets)
        except ValidationError as error:
            for field, messages in error.message_dict.items():
                self._wrong(wanted, field, " ".join(messages))
            return
        if before is None:
            self._say("+", f"channel {wanted.name}", f"{after.protocol} at {after.base_url}")
            for line in _secret_lines(None, secrets):
                self._say("+", f"channel {wanted.name}", line)
        for line in lines:
            self._say("~", f"channel {wanted.name}", line)

    # -- the rest

    def defaults(self, wanted: Mapping[str, str]) -> None:
        known = {route.endpoint for route in urls.ROUTES}
        stored = dict(DefaultModel.objects.values_list("endpoint", "model"))
        for endpoint, model in wanted.items():
            if endpoint not in known | LATER_ENDPOINTS:
                names = ", ".join(sorted(known | LATER_ENDPOINTS))
                self.problems.append(Problem(f"defaults.{endpoint}", f"this is no endpoint; known are {names}"))
            elif model not in self.known:
                self.problems.append(Problem(f"defaults.{endpoint}", f"there is no model {model!r}"))
            elif stored.get(endpoint) != model:
                services.set_default(endpoint, model)
                old = f"{stored[endpoint]} → " if endpoint in stored else ""
                self._say("~" if old else "+", f"default {endpoint}", f"{old}{model}")

    def prune(self, file: File) -> None:
        """Takes out of use what the file's sections do not name.

        Nothing is deleted but defaults, and groups that no wallet is in: what a customer pays is not changed by what
        a file leaves out.
        """
        if file.channels is not None:
            named = {channel.name for channel in file.channels}
            for channel in Channel.objects.filter(enabled=True).exclude(name__in=named).order_by("name"):
                services.set_enabled(channel, enabled=False)
                self._say("-", f"channel {channel.name}", "disabled")
        if file.models is not None:
            for name in sorted(self.known.keys() - {model.name for model in file.models}):
                if self.known[name].active:
                    catalog.save_model(name=name, active=False)
                    self._say("-", f"model {name}", "no longer offered")
        if file.defaults is not None:
            for default in DefaultModel.objects.exclude(endpoint__in=file.defaults):
                services.set_default(default.endpoint, None)
                self._say("-", f"default {default.endpoint}")
        if file.groups is not None:
            self._prune_groups({group.name for group in file.groups})

    def _prune_groups(self, named: set[str]) -> None:
        for name in sorted(self.groups.keys() - named):
            try:
                groups.remove(self.groups[name])
            except groups.InUse:
                self.outcome.notes.append(f"group {name} stays: there are wallets in it, or prices of its own")
            else:
                self._say("-", f"group {name}")

    def note(self, file: File) -> None:
        """What is no mistake, but leaves something that cannot be called."""
        for model in file.models or ():
            if model.active and catalog.price_shown(self.known[model.name]) is None:
                self.outcome.notes.append(f"model {model.name} has no price, so it cannot be called")
        for channel in file.channels or ():
            models = {} if isinstance(channel.models, msgspec.UnsetType) else channel.models
            for name in models:
                if name not in self.known:
                    self.outcome.notes.append(f"channel {channel.name} serves {name}, which is not among the models")
        for endpoint in sorted(LATER_ENDPOINTS & (file.defaults or {}).keys()):
            self.outcome.notes.append(f"defaults.{endpoint} is kept; the endpoint is not available yet")


def _merged(before: ChannelSpec | None, wanted: FileChannel) -> ChannelSpec:
    names = set(ChannelSpec.__struct_fields__) & set(FileChannel.__struct_fields__)
    given = {name: value for name in names if (value := getattr(wanted, name)) is not UNSET}
    if before is None:
        given = {**_of_preset(wanted), **given}
    after = msgspec.structs.replace(before, **given) if before else ChannelSpec(**given)
    if "costs" not in given:
        after.costs = {name: card for name, card in after.costs.items() if name in after.models}
    if "capabilities" not in given:
        after.capabilities = {name: found for name, found in after.capabilities.items() if name in after.models}
    if given.keys() & {"base_url", "proxy"}:
        after.private = any(services.is_private(url) for url in (after.base_url, after.proxy) if url)
    return after


def _of_preset(wanted: FileChannel) -> dict[str, str]:
    """What a new channel has of its provider where the file does not say it."""
    if isinstance(wanted.preset, msgspec.UnsetType):
        return {}
    given = wanted.protocol
    protocol = presets.of(wanted.preset).protocols[0] if isinstance(given, msgspec.UnsetType) else given
    return {"protocol": protocol, "base_url": presets.base_url(wanted.preset, protocol)}


def _spec_lines(before: ChannelSpec, after: ChannelSpec) -> Iterator[str]:
    for name in ChannelSpec.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old != new and name == "models":
            yield from _model_lines(old, new)
        elif old != new and name == "costs":
            yield from _cost_lines(old, new)
        elif old != new and name in ("headers", "parameters", "capabilities"):
            yield from _override_lines(name, old, new)
        elif old != new:
            yield f"{name} {_shown(old)} → {_shown(new)}"


def _model_lines(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"serves {name}" + (f" as {new[name]}" if new[name] != name else "")
        elif name not in new:
            yield f"serves {name} no longer"
        elif old[name] != new[name]:
            yield f"serves {name} as {old[name]} → {new[name]}"


def _override_lines(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Names only: a header's value may be a secret."""
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield f"{what} {name} no longer"
        elif name not in old or old[name] != new[name]:
            yield f"{what} {name} {'changed' if name in old else 'added'}"


def _cost_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            before, after = (prices.describe(prices.parse_card(c[name])) if name in c else "none" for c in (old, new))
            yield f"cost of {name} {before} → {after}"


class _Refused(Exception):
    """The file's credentials cannot be had; the message names none."""


def _secrets(row: Channel | None, wanted: FileChannel, *, moved: bool) -> dict[str, int] | None:
    """The secrets that the channel is to have, with their weights; None leaves them alone. Raises _Refused."""
    stored = list(row.credentials.order_by("id")) if row else []
    if isinstance(wanted.api_keys, msgspec.UnsetType):
        if moved and stored:
            raise _Refused("the address changes, so the credentials have to be given again")
        return None
    times = Counter(entry.key for entry in wanted.api_keys)
    kept = {mark: _kept(stored, mark, times[mark], moved=moved) for mark in times if isinstance(mark, Stored)}
    found: dict[str, int] = {}
    for entry in wanted.api_keys:
        meant = [entry.key] if isinstance(entry.key, str) else next(kept[entry.key])
        found |= dict.fromkeys(meant, entry.weight)
    return found


def _kept(stored: list[Credential], mark: Stored, times: int, *, moved: bool) -> Iterator[list[str]]:
    """What each of a mark's `times` entries means: all that end so where it is there once, else one after the other."""
    if moved:
        raise _Refused("the address changes: a stored credential is not sent to a new one")
    matching = [credential for credential in stored if credential.last_four == mark.last_four]
    if not matching:
        raise _Refused(f"no credential that ends with …{mark.last_four} is stored")
    if times not in (1, len(matching)):
        raise _Refused(f"{len(matching)} credentials that end with …{mark.last_four} are stored, not {times}")
    secrets = list(_opened(matching, mark))
    yield from [secrets] if times == 1 else ([secret] for secret in secrets)


def _opened(matching: list[Credential], mark: Stored) -> Iterator[str]:
    for credential in matching:
        secret = services.opened(credential)
        if secret is None:
            raise _Refused(f"the credential …{mark.last_four} cannot be decrypted any more")
        yield secret


def _secret_lines(row: Channel | None, wanted: Mapping[str, int] | None) -> Iterator[str]:
    if wanted is None:
        return
    stored = list(row.credentials.order_by("id")) if row else []
    known = {services.opened(credential): credential.weight for credential in stored}
    for secret, weight in wanted.items():
        if secret not in known:
            yield f"credential …{services.shown(secret)} added"
        elif known[secret] != weight:
            yield f"credential …{services.shown(secret)} weight {known[secret]} → {weight}"
    for credential in stored:
        if services.opened(credential) not in wanted:
            yield f"credential …{credential.last_four} removed"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {seconds:g}" for name, seconds in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)
