"""Proposals: nothing changes before somebody accepts it, once, from a moment to come; and who did stays on record."""

import datetime as dt
from typing import Any

import msgspec
import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing import catalog, groups, prices
from billing.catalog_import import proposals
from billing.catalog_import.margins import Margin
from billing.catalog_import.proposals import Refused
from billing.catalog_import.values import Listed, Listing
from billing.models import CatalogModel, PriceVersion
from billing.proposal_models import ItemState, MarginRule, PriceProposal, ProposalItem, ProposalState


def _listing(written: dict[str, dict[str, Any]], **fields: Any) -> Listing:
    models = tuple(
        Listed(model=name, provider="acme", kind="chat", card=prices.parse_card(card)) for name, card in written.items()
    )
    said = {"source": "acme-prices", "edition": "acme-prices 1", "currency": "USD", "complete": True, **fields}
    return Listing(models=models, **said)


def _propose(written: dict[str, dict[str, Any]], *, remember: bool = False, **fields: Any) -> PriceProposal | None:
    found = proposals.find(_listing(written, **fields), [Margin(adds=True)])
    return proposals.propose(found, actor="tests", remember=remember)


def _made(written: dict[str, dict[str, Any]], **fields: Any) -> PriceProposal:
    proposal = _propose(written, **fields)
    assert proposal is not None
    return proposal


def _states(proposal: PriceProposal) -> dict[str, str]:
    return dict(proposal.items.values_list("model", "state"))


def _price(name: str) -> str:
    card = catalog.current_card(CatalogModel.objects.get(name=name))
    return prices.describe(card) if card else ""


@pytest.fixture
def sold(books: str) -> str:
    """A catalogue in an empty database of each kind: `m` at 1, `n` at 2. The value is the kind."""
    for name, price in (("m", "1"), ("n", "2")):
        row = catalog.save_model(name=name, provider="Acme")
        catalog.set_price(row, prices.parse_card({"input": price}), actor="tests")
    return books


def test_a_proposal_changes_nothing_and_its_acceptance_what_it_says(sold: str) -> None:
    proposal = _made({"m": {"input": "1.5"}, "n": {"input": "2"}, "new": {"input": "3"}})
    assert (_price("m"), CatalogModel.objects.count(), PriceVersion.objects.count()) == ("input 1", 2, 2)
    assert (proposal.unchanged, _states(proposal)) == (1, {"m": "open", "new": "open"})
    done = proposals.accept(proposal=proposal, actor="root@example.com")
    assert [item.model for item in done] == ["m", "new"]
    assert (_price("m"), _price("n"), _price("new")) == ("input 1.5", "input 2", "input 3")
    assert CatalogModel.objects.get(name="new").kind == "chat"
    proposal.refresh_from_db()
    assert proposal.state == ProposalState.DECIDED
    for item in proposal.items.all():
        assert (item.state, item.decided_by) == (ItemState.ACCEPTED, "root@example.com")
        assert item.decided_at is not None
        assert item.version is not None
        assert item.version.actor == "root@example.com"
        assert item.version.model.name == item.model


def test_accepting_twice_does_nothing_twice(sold: str) -> None:
    proposal = _made({"m": {"input": "1.5"}, "n": {"input": "2"}})
    assert len(proposals.accept(proposal=proposal, actor="one")) == 1
    versions = PriceVersion.objects.count()
    assert proposals.accept(proposal=proposal, actor="two") == []
    (item,) = proposal.items.all()
    assert proposals.accept(proposal=proposal, actor="two", lines=[item.pk]) == []
    assert proposals.dismiss(proposal=proposal, actor="two") == 0
    assert PriceVersion.objects.count() == versions
    assert proposal.items.get().decided_by == "one"


def test_the_same_difference_is_proposed_once_and_after_acceptance_not_at_all(sold: str) -> None:
    prices_now = {"m": {"input": "1.5"}, "n": {"input": "2"}}
    first = _made(prices_now)
    assert _made(prices_now).pk == first.pk
    proposals.accept(proposal=first, actor="tests")
    assert _propose(prices_now) is None
    assert PriceProposal.objects.count() == 1


def test_lines_are_accepted_one_by_one_from_a_moment_to_come(sold: str) -> None:
    proposal = _made({"m": {"input": "1.5"}, "n": {"input": "3"}})
    later = timezone.now() + dt.timedelta(days=3)
    item = proposal.items.get(model="n")
    proposals.accept(proposal=proposal, actor="tests", lines=[item.pk], valid_from=later)
    assert _states(proposal) == {"m": "open", "n": "accepted"}
    assert (_price("m"), _price("n")) == ("input 1", "input 2")
    (planned,) = catalog.upcoming(CatalogModel.objects.get(name="n"))
    assert (planned.valid_from, planned.rates) == (later, {"input": 3 * 10**9})
    assert proposal.items.get(model="n").valid_from == later
    proposal.refresh_from_db()
    assert proposal.state == ProposalState.OPEN
    assert _propose({"m": {"input": "1"}, "n": {"input": "3"}}) is None  # what is planned is not proposed again


def test_a_moment_in_the_past_is_refused_and_nothing_is_written(sold: str) -> None:
    proposal = _made({"m": {"input": "1.5"}, "n": {"input": "2"}})
    with pytest.raises(Refused, match="past"):
        proposals.accept(proposal=proposal, actor="tests", valid_from=timezone.now() - dt.timedelta(hours=1))
    assert (_states(proposal), PriceVersion.objects.count()) == ({"m": "open"}, 2)


def test_a_price_a_thousand_times_higher_is_stopped_until_its_name_is_typed(sold: str) -> None:
    proposal = _made({"m": {"input": "1000"}, "n": {"input": "2.5"}})
    assert [item.model for item in proposals.accept(proposal=proposal, actor="tests")] == ["n"]
    stopped = proposal.items.get(model="m")
    assert (stopped.stopped, stopped.state, _price("m")) == ("factor", "open", "input 1")
    for typed in ({}, {stopped.pk: "n"}, {stopped.pk + 1: "m"}):
        with pytest.raises(Refused, match="m is stopped"):
            proposals.accept(proposal=proposal, actor="tests", lines=[stopped.pk], confirmed=typed)
    assert _price("m") == "input 1"
    proposals.accept(proposal=proposal, actor="tests", lines=[stopped.pk], confirmed={stopped.pk: "m"})
    assert _price("m") == "input 1000"


def test_one_refused_line_leaves_all_as_they_were(sold: str) -> None:
    proposal = _made({"m": {"input": "1000"}, "n": {"input": "2.5"}})
    lines = list(proposal.items.values_list("pk", flat=True))
    with pytest.raises(Refused):
        proposals.accept(proposal=proposal, actor="tests", lines=lines)
    assert (_states(proposal), _price("n")) == ({"m": "open", "n": "open"}, "input 2")


def test_a_line_whose_price_has_changed_since_is_refused(sold: str) -> None:
    proposal = _made({"m": {"input": "1.5"}, "n": {"input": "2"}, "new": {"input": "3"}})
    catalog.set_price(catalog.rows()["m"], prices.parse_card({"input": "1.2"}), actor="by hand")
    with pytest.raises(Refused, match="m has changed since this was proposed"):
        proposals.accept(proposal=proposal, actor="tests")
    catalog.save_model(name="new")
    with pytest.raises(Refused, match="new has changed"):
        proposals.accept(proposal=proposal, actor="tests", lines=[proposal.items.get(model="new").pk])
    assert _price("m") == "input 1.2"


@pytest.mark.parametrize("said", [{"description": "Ours."}, {"max_output": 5}, {"capabilities": {"streams": "only"}}])
def test_what_somebody_has_said_of_a_model_since_is_not_written_over(sold: str, said: dict[str, Any]) -> None:
    theirs: dict[str, Any] = {"description": "Theirs.", "max_output": 100, "capabilities": {"tools": False}}
    listed = Listed(model="m", card=prices.parse_card({"input": "1.5"}), **theirs)
    listing = msgspec.structs.replace(_listing({}), models=(listed,))
    proposal = proposals.propose(proposals.find(listing, [Margin()]), actor="tests")
    assert proposal is not None
    catalog.save_model(name="m", **said)
    with pytest.raises(Refused, match="m has changed since this was proposed"):
        proposals.accept(proposal=proposal, actor="root")
    row = CatalogModel.objects.get(name="m")
    assert {name: getattr(row, name) for name in said} == said
    assert (_price("m"), _states(proposal)) == ("input 1", {"m": "open"})
    catalog.save_model(name="m", description="", max_output=None, capabilities={})
    proposals.accept(proposal=proposal, actor="root")
    assert (_price("m"), CatalogModel.objects.get(name="m").description) == ("input 1.5", "Theirs.")


def test_a_price_does_not_take_effect_before_one_that_is_planned(sold: str) -> None:
    row, later = catalog.rows()["m"], timezone.now() + dt.timedelta(days=9)
    catalog.set_price(row, prices.parse_card({"input": "1.2"}), actor="by hand", valid_from=later)
    proposal = _made({"m": {"input": "1.5"}, "n": {"input": "2"}})
    assert proposal.items.get().old_card == {"input": "1.2"}
    with pytest.raises(Refused, match="m has a price planned from"):
        proposals.accept(proposal=proposal, actor="tests")
    after = later + dt.timedelta(days=1)
    proposals.accept(proposal=proposal, actor="tests", valid_from=after)
    assert [version.valid_from for version in catalog.upcoming(row)] == [later, after]


def test_what_was_dismissed_is_not_proposed_again_every_day(sold: str) -> None:
    listed = {"m": {"input": "1.5"}, "n": {"input": "2"}}
    proposal = _made(listed)
    assert proposals.dismiss(proposal=proposal, actor="root") == 1
    assert (_price("m"), proposal.items.get().decided_by) == ("input 1", "root")
    assert _propose(listed, remember=True) is None
    assert _made(listed).pk != proposal.pk  # whoever asks for it sees it
    assert _propose({"m": {"input": "1.6"}, "n": {"input": "2"}}, remember=True) is not None


def test_a_newer_proposal_takes_the_place_of_an_open_one(sold: str) -> None:
    first = _made({"m": {"input": "1.5"}, "n": {"input": "2"}})
    second = _made({"m": {"input": "1.6"}, "n": {"input": "2"}})
    first.refresh_from_db()
    assert (first.state, _states(first)) == (ProposalState.SUPERSEDED, {"m": "superseded"})
    assert proposals.accept(proposal=first, actor="late") == []
    assert len(proposals.accept(proposal=second, actor="tests")) == 1
    assert _price("m") == "input 1.6"


def test_a_model_that_its_source_no_longer_lists_is_withdrawn_only_where_somebody_chooses_that(sold: str) -> None:
    proposals.accept(proposal=_made({"m": {"input": "1.5"}, "n": {"input": "2"}}), actor="tests")
    proposal = _made({"n": {"input": "2"}})
    (item,) = proposal.items.all()
    assert (item.model, item.change) == ("m", "gone")
    assert proposals.accept(proposal=proposal, actor="tests") == []
    assert CatalogModel.objects.get(name="m").active
    proposals.accept(proposal=proposal, actor="tests", lines=[item.pk])
    assert not CatalogModel.objects.get(name="m").active
    found = proposals.find(_listing({"m": {"input": "1"}, "n": {"input": "2"}}), [Margin(adds=True)])
    assert (found.difference.lines, found.skipped) == ((), ("m: it is withdrawn in the catalogue",))


def test_new_models_are_proposed_where_a_rule_says_so(sold: str) -> None:
    listing = _listing({"new": {"input": "3"}, "m": {"input": "1"}})
    assert proposals.find(listing, [Margin()]).difference.lines == ()
    assert len(proposals.find(listing, [Margin(adds=True)]).difference.lines) == 1
    assert proposals.find(listing, []).difference.unchanged == 0


def test_a_list_in_another_currency_needs_a_rate(sold: str) -> None:
    listing = _listing({"m": {"input": "1"}}, currency="EUR")
    with pytest.raises(Refused, match="m: its price is in EUR, the ledger in USD"):
        proposals.find(listing, [Margin()])
    (line,) = proposals.find(listing, [Margin(exchange=1_250_000_000)]).difference.lines
    assert line.new == prices.parse_card({"input": "1.25"})


def test_stored_rules_count_in_their_order(sold: str) -> None:
    MarginRule.objects.create(position=20, provider="*", multiplier=3_000_000)
    MarginRule.objects.create(position=10, provider="acme", model="m", multiplier=2_000_000, digits=2)
    MarginRule.objects.create(position=1, provider="acme", multiplier=9_000_000, active=False)
    found = proposals.find(_listing({"m": {"input": "1"}, "n": {"input": "2"}}), proposals.rules())
    assert {line.model: line.new for line in found.difference.lines} == {
        "m": prices.parse_card({"input": "2"}), "n": prices.parse_card({"input": "6"}),
    }  # fmt: skip


def test_an_import_leaves_groups_prices_alone(sold: str) -> None:
    row, group = catalog.rows()["m"], groups.save(name="vip", multiplier=500_000)
    catalog.set_price(row, prices.parse_card({"input": "0.9"}), actor="tests", group=group)
    proposals.accept(proposal=_made({"m": {"input": "1.5"}, "n": {"input": "2"}}), actor="tests")
    price = catalog.load()["m"].price_at(timezone.now().timestamp(), group=group.pk)
    assert price is not None
    assert (price.own, price.card.rates) == (True, {"input": 9 * 10**8})


def test_the_database_wants_a_decision_to_be_somebodys(sold: str) -> None:
    item = _made({"m": {"input": "1.5"}, "n": {"input": "2"}}).items.get()
    for fields in (
        {"state": ItemState.ACCEPTED},
        {"state": ItemState.ACCEPTED, "decided_at": timezone.now()},
        {"decided_at": timezone.now(), "decided_by": "x"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            ProposalItem.objects.filter(pk=item.pk).update(**fields)


# ---- groups' own versions -------------------------------------------------------------------------------------------


def test_versions_of_the_list_and_of_groups_do_not_get_into_each_others_way(sold: str) -> None:
    row, now = catalog.rows()["m"], timezone.now()
    vip, other = groups.save(name="vip", multiplier=500_000), groups.save(name="other", multiplier=800_000)
    later = now + dt.timedelta(days=1)
    for group in (None, vip, other):
        card = prices.parse_card({"input": "0.7"})
        assert catalog.set_price(row, card, actor="tests", group=group, valid_from=later) is not None
        assert catalog.set_price(row, card, actor="tests", group=group, valid_from=later) is None
        with pytest.raises(ValueError, match="that very moment"):
            catalog.set_price(row, prices.parse_card({"input": "0.8"}), actor="x", group=group, valid_from=later)
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceVersion.objects.create(model=row, group=vip, rates={"input": 1}, valid_from=later)
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceVersion.objects.create(model=row, rates={"input": 1}, valid_from=later)
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceVersion.objects.create(model=row, rates=None, valid_from=now)


def test_a_groups_price_is_in_force_between_its_moments(sold: str) -> None:
    row, now = catalog.rows()["m"], timezone.now()
    vip = groups.save(name="vip", multiplier=500_000)
    day = dt.timedelta(days=1)
    catalog.set_price(row, prices.parse_card({"input": "0.9"}), actor="t", group=vip, valid_from=now + day)
    catalog.set_price(row, None, actor="t", group=vip, valid_from=now + 3 * day)
    catalog.set_price(row, prices.parse_card({"input": "1.1"}), actor="t", valid_from=now + 2 * day)
    model, start = catalog.load()["m"], now.timestamp()
    seen = []
    for days in range(5):
        price = model.price_at(start + days * 86400 + 60, group=vip.pk)
        assert price is not None
        seen.append((price.card.rates["input"] // 10**8, price.own, price.times(7)))
    assert seen == [(10, False, 7), (9, True, 1_000_000), (9, True, 1_000_000), (11, False, 7), (11, False, 7)]
    changes = model.changes(start + 60, group=vip.pk)
    assert [round((change.valid_from - start) / 86400) for change in changes] == [1, 3]
    assert [round((change.valid_from - start) / 86400) for change in model.changes(start + 60)] == [2]
    assert [str(version.group) for version in catalog.own_prices(row)] == ["vip", "vip"]


def test_the_lists_price_cannot_be_ended_and_a_group_without_a_price_has_none_to_end(sold: str) -> None:
    row, vip = catalog.rows()["m"], groups.save(name="vip", multiplier=500_000)
    with pytest.raises(ValueError, match="not taken away"):
        catalog.set_price(row, None, actor="tests")
    assert catalog.set_price(row, None, actor="tests", group=vip) is None
    past = timezone.now() - dt.timedelta(days=1)
    with pytest.raises(ValueError, match="past"):
        catalog.set_price(row, prices.parse_card({"input": "1"}), actor="t", group=vip, valid_from=past)
    catalog.set_price(row, prices.parse_card({"input": "1"}), actor="t", group=vip)
    with pytest.raises(groups.InUse):
        groups.remove(vip)
