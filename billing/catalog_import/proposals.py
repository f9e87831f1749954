"""Proposals: the only writer of `PriceProposal` and `ProposalItem`. Nothing here changes a price but `accept`.

A line is decided once, by a compare-and-set on its state, in the transaction that carries it out; the catalogue is
written by `billing.catalog`. What the catalogue had when a line was proposed it must still have when it is accepted.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import catalog, money, prices
from billing.catalog_import import difference, margins
from billing.catalog_import.difference import Difference, Known, Line
from billing.catalog_import.margins import Margin
from billing.catalog_import.values import Listed, Listing
from billing.models import CatalogModel
from billing.prices import PriceCard
from billing.proposal_models import Change, ItemState, MarginRule, PriceProposal, ProposalItem, ProposalState

AS_LISTED = Margin(adds=True)
MOST_SKIPPED = 200  # reasons that are kept with a proposal


class Refused(ValueError):
    """It cannot be proposed or accepted; the message says why and is fit for an administrator."""


class Found(msgspec.Struct, frozen=True):
    """What a source would change, before anything is stored."""

    listing: Listing
    difference: Difference
    skipped: tuple[str, ...]


# ---- proposing ------------------------------------------------------------------------------------------------------


def rules() -> list[Margin]:
    """The stored margin rules in their order."""
    names = Margin.__struct_fields__
    return [Margin(**{name: getattr(row, name) for name in names}) for row in MarginRule.objects.filter(active=True)]


def find(listing: Listing, chosen: Sequence[Margin] | None) -> Found:
    """What the listing would change, priced by these rules; None takes its prices as ours. Raises Refused.

    A model that was once accepted from a complete source, and that it no longer lists, is gone.
    """
    known, skipped = _known(), list(listing.skipped)
    wanted: dict[str, tuple[Listed, PriceCard]] = {}
    withdrawn = set(catalog.rows()) - known.keys()
    rules = chosen if chosen is not None else [AS_LISTED]
    for name, (listed, margin) in margins.choose(rules, listing.models).items():
        if name in withdrawn:
            skipped.append(f"{name}: it is withdrawn in the catalogue")
        elif name in known or margin.adds:
            wanted[name] = listed, _sold(listed, margin, listing)
    gone = _gone(listing) if listing.complete else set()
    return Found(listing, difference.compare(wanted, known, gone), tuple(skipped))


def _sold(listed: Listed, margin: Margin, listing: Listing) -> PriceCard:
    if margin.exchange is None and listing.currency != settings.CURRENCY:
        problem = _("%(model)s: its price is in %(theirs)s, the ledger in %(ours)s: give the rule an exchange rate")
        raise Refused(problem % {"model": listed.model, "theirs": listing.currency, "ours": settings.CURRENCY})
    try:
        return margins.sold(listed.card, margin)
    except money.InvalidAmount as error:
        raise Refused(f"{listed.model}: {error}") from error


def _known() -> dict[str, Known]:
    """The offered models by name, with the last card that is written for each."""
    return {
        name: Known(
            {field: getattr(model, field) for field in (*difference.CORRECTED, *difference.FILLED, "capabilities")},
            model.prices[-1].card if model.prices else None,
        )
        for name, model in catalog.load().items()
    }


def _gone(listing: Listing) -> set[str]:
    accepted = ProposalItem.objects.filter(proposal__source=listing.source, state=ItemState.ACCEPTED)
    listed = {one.model for one in listing.models}
    return set(accepted.exclude(change=Change.GONE).values_list("model", flat=True)) - listed


def propose(found: Found, *, actor: str, remember: bool = False) -> PriceProposal | None:
    """Stores what was found, for an administrator to decide; None where nothing would change.

    The same difference is not proposed twice: the open proposal that has it is returned. A new one of a complete source
    takes the place of the open ones. With `remember`, what was dismissed before is not proposed again.
    """
    lines = list(found.difference.lines)
    if remember:
        lines = [line for line in lines if not _was_dismissed(found.listing.source, line)]
    if not lines:
        return None
    digest = hashlib.sha256(msgspec.json.encode([_stored(line) for line in lines], order="sorted")).hexdigest()
    same = PriceProposal.objects.filter(source=found.listing.source, digest=digest, state=ProposalState.OPEN)
    if (proposal := same.first()) is not None:
        return proposal
    try:
        return _store(found, lines, digest, actor)
    except IntegrityError:  # another process has just stored the same
        return same.get()


@transaction.atomic
def _store(found: Found, lines: Sequence[Line], digest: str, actor: str) -> PriceProposal:
    listing = found.listing
    proposal = PriceProposal.objects.create(
        source=listing.source,
        edition=listing.edition[:200],
        digest=digest,
        unchanged=found.difference.unchanged,
        skipped=list(found.skipped[:MOST_SKIPPED]),
        actor=actor[:200],
    )
    if listing.complete:
        older = PriceProposal.objects.filter(source=listing.source, state=ProposalState.OPEN).exclude(pk=proposal.pk)
        ProposalItem.objects.filter(proposal__in=older, state=ItemState.OPEN).update(state=ItemState.SUPERSEDED)
        older.update(state=ProposalState.SUPERSEDED)
    ProposalItem.objects.bulk_create(ProposalItem(proposal=proposal, **_stored(line)) for line in lines)
    return proposal


def _stored(line: Line) -> dict[str, Any]:
    """The line as its row has it."""
    listed = line.listed
    return {
        "model": line.model,
        "provider": listed.provider[:100] if listed else "",
        "change": line.change,
        "facts": {name: list(pair) for name, pair in line.facts.items()},
        "old_card": _written(line.old),
        "new_card": _written(line.new),
        "list_card": _written(listed.card) if listed else None,
        "notes": list(listed.notes) if listed else [],
        "stopped": line.stopped,
    }


def _written(card: PriceCard | None) -> dict[str, Any] | None:
    return prices.write_card(card) if card is not None else None


def _was_dismissed(source: str, line: Line) -> bool:
    decided = ProposalItem.objects.filter(proposal__source=source, model=line.model, decided_at__isnull=False)
    last = decided.order_by("-pk").first()
    if last is None or last.state != ItemState.DISMISSED:
        return False
    stored = _stored(line)
    return all(getattr(last, name) == stored[name] for name in ("change", "facts", "new_card"))


# ---- deciding -------------------------------------------------------------------------------------------------------


@transaction.atomic
def accept(
    *,
    proposal: PriceProposal,
    actor: str,
    lines: Sequence[int] | None = None,
    valid_from: dt.datetime | None = None,
    confirmed: Mapping[int, str] | None = None,
) -> list[ProposalItem]:
    """Carries out the lines that are still open, all of them or none; returns those. Prices count from `valid_from`.

    `lines` are the items' ids. None means the whole: everything but what is stopped and what is gone, which somebody
    has to choose. A stopped line needs the model's name in `confirmed`. A line that is decided already is passed over.
    Raises Refused.
    """
    if catalog.is_past(valid_from):
        raise Refused(_("A price cannot take effect in the past."))
    PriceProposal.objects.select_for_update().get(pk=proposal.pk)
    still = proposal.items.filter(state=ItemState.OPEN).order_by("model")
    plain = still.filter(stopped="").exclude(change=Change.GONE)
    items = plain if lines is None else still.filter(pk__in=list(lines))
    done = [item for item in items if _accepted(item, actor, valid_from, (confirmed or {}).get(item.pk, ""))]
    _close(proposal)
    return done


def _accepted(item: ProposalItem, actor: str, valid_from: dt.datetime | None, typed: str) -> bool:
    if item.stopped and typed.strip() != item.model:
        raise Refused(_("%(model)s is stopped: type its name to confirm its price.") % {"model": item.model})
    if not _decide(item, ItemState.ACCEPTED, actor):
        return False
    item.valid_from = valid_from or item.decided_at
    if item.change == Change.GONE:
        catalog.save_model(name=item.model, active=False)
    else:
        _carry_out(item, actor, valid_from)
    item.save(update_fields=["valid_from", "version"])
    return True


def _carry_out(item: ProposalItem, actor: str, valid_from: dt.datetime | None) -> None:
    row = CatalogModel.objects.filter(name=item.model).first()
    if (row is None) != (item.change == Change.NEW) or (row is not None and _has_changed(row, item)):
        raise Refused(_("%(model)s has changed since this was proposed. Compare again.") % {"model": item.model})
    if row is not None and (later := catalog.upcoming(row)) and (valid_from or timezone.now()) <= later[-1].valid_from:
        problem = _("%(model)s has a price planned from %(date)s: choose a later moment.")
        raise Refused(problem % {"model": item.model, "date": later[-1].valid_from.strftime("%Y-%m-%d %H:%M UTC")})
    facts = {name: after for name, (_before, after) in item.facts.items()}
    if row is None or facts:
        row = catalog.save_model(name=item.model, **facts)
    try:
        card = prices.parse_card(item.new_card or {})
        item.version = catalog.set_price(row, card, actor=actor, valid_from=valid_from)
    except ValueError as error:
        raise Refused(f"{item.model}: {error}") from error


def _has_changed(row: CatalogModel, item: ProposalItem) -> bool:
    """Whether somebody has written another price, or another of the facts that the line would write over."""
    others = (name for name, (before, _after) in item.facts.items() if getattr(row, name) != before)
    return _last_card(row) != item.old_card or any(others)


def _last_card(row: CatalogModel) -> dict[str, Any] | None:
    """The last card that is written for a model, as items have it."""
    planned = catalog.upcoming(row)
    version = planned[-1] if planned else catalog.price_shown(row)
    return _written(catalog.card_of(version)) if version is not None else None


@transaction.atomic
def dismiss(*, proposal: PriceProposal, actor: str, lines: Sequence[int] | None = None) -> int:
    """Decides that the lines that are still open change nothing, all of them where `lines` is None; how many."""
    PriceProposal.objects.select_for_update().get(pk=proposal.pk)
    items = proposal.items.filter(state=ItemState.OPEN)
    if lines is not None:
        items = items.filter(pk__in=list(lines))
    done = sum(_decide(item, ItemState.DISMISSED, actor) for item in items)
    _close(proposal)
    return done


def _decide(item: ProposalItem, state: ItemState, actor: str) -> bool:
    """False where somebody else has decided it by now."""
    now = timezone.now()
    mine = ProposalItem.objects.filter(pk=item.pk, state=ItemState.OPEN)
    if not mine.update(state=state, decided_by=actor[:200], decided_at=now):
        return False
    item.state, item.decided_by, item.decided_at = state, actor[:200], now
    return True


def _close(proposal: PriceProposal) -> None:
    if not proposal.items.filter(state=ItemState.OPEN).exists():
        PriceProposal.objects.filter(pk=proposal.pk, state=ProposalState.OPEN).update(state=ProposalState.DECIDED)
