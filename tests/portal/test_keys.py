"""The life of a key through the pages: made, shown once, changed, paused, revoked; and the rows left behind."""

import datetime as dt
import html
import re
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import money
from billing.models import Budget, PriceVersion
from keys import services, tokens
from keys.models import ApiKey
from portal.models import Team
from tests.portal import made

FORM = {
    "name": "agent-staging",
    "expires": "90",
    "billing": "metered",
    "type": "standard",
    "payment": "prepaid",
    "quota": "20.50",
    "window": "month",
}


def secret_in(page: bytes) -> str:
    found = re.search(tokens.PATTERN, page.decode())
    assert found is not None
    return found[0]


def test_a_key_is_made_with_what_the_form_says(as_alice: Client, team: Team, price: PriceVersion) -> None:
    form = FORM | {"models": "gpt-4o-mini", "networks": "203.0.113.0/24, 198.51.100.7", "billing": "per_call"}
    answer = as_alice.post(reverse("key_create"), form)
    assert answer.status_code == 201
    key = ApiKey.objects.get(team=team)
    assert (key.name, key.type, key.payment, key.billing) == ("agent-staging", "standard", "prepaid", "per_call")
    assert (key.models, key.networks) == (["gpt-4o-mini"], ["203.0.113.0/24", "198.51.100.7/32"])
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - dt.timedelta(days=90)) < dt.timedelta(minutes=1)
    budget = Budget.objects.get(owner_id=key.pk)
    assert (budget.cap, budget.window) == (money.parse("20.50"), "month")


def test_the_secret_is_shown_once_and_kept_nowhere(as_alice: Client) -> None:
    answer = as_alice.post(reverse("key_create"), FORM)
    secret = secret_in(answer.content)
    assert answer.headers["Cache-Control"] == "no-store"
    assert ApiKey.objects.get().digest == services.digest(secret)
    for page in ("keys", "overview", "usage", "key_create"):
        assert secret not in as_alice.get(reverse(page)).content.decode()
    assert secret not in as_alice.get(reverse("key_edit", args=[ApiKey.objects.get().pk])).content.decode()
    assert all(secret not in str(session.get_decoded()) for session in Session.objects.all())
    assert secret not in str(ApiKey.objects.values().get())


def test_the_samples_are_filled_in_with_the_key_and_the_base_url(as_alice: Client, settings: Any) -> None:
    settings.BASE_URL = "https://api.example.com"
    page = as_alice.post(reverse("key_create"), FORM).content.decode()
    assert page.count(secret_in(page.encode())) == 5  # the key itself, curl, Python, Node, PHP
    assert "https://api.example.com/v1/chat/completions" in page


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"quota": "abc"}, "quota"),
        ({"quota": "0"}, "quota"),
        ({"quota": "-5"}, "quota"),
        ({"models": "no-such-model"}, "models"),
        ({"networks": "10.0.0.300"}, "networks"),
        ({"type": "restricted"}, "models"),
        ({"type": "nonsense"}, "type"),
        ({"expires": "date"}, "expires_on"),
        ({"expires": "date", "expires_on": "2020-01-01"}, "expires_on"),
        ({"expires": "date", "expires_on": "soon"}, "expires_on"),
        ({"type": "restricted", "endpoints": "no.such.endpoint"}, "endpoints"),
        ({"window": "year"}, "window"),
        ({"rpm": "-1"}, "rpm"),
        ({"tpm": "many"}, "tpm"),
        ({"tpm": "1000000001"}, "tpm"),
        ({"parallel": "1.5"}, "parallel"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_made(as_alice: Client, change: dict[str, str], field: str) -> None:
    answer = as_alice.post(reverse("key_create"), FORM | change)
    assert answer.status_code == 422
    assert field in answer.context["form"].errors
    page = answer.content.decode()
    assert f'href="#id_{field}' in page
    assert 'role="alert"' in page
    assert not ApiKey.objects.exists()


def test_all_that_is_wrong_is_said_at_once(as_alice: Client) -> None:
    answer = as_alice.post(reverse("key_create"), FORM | {"quota": "abc", "models": "nope", "networks": "nowhere"})
    assert set(answer.context["form"].errors) == {"quota", "models", "networks"}


def test_a_restricted_key_has_its_endpoints_and_a_standard_one_has_none(as_alice: Client) -> None:
    for kind, kept in (("restricted", ["chat.completions"]), ("standard", [])):
        answer = as_alice.post(reverse("key_create"), FORM | {"type": kind, "endpoints": "chat.completions"})
        assert answer.status_code == 201
        assert ApiKey.objects.latest("pk").endpoints == kept


def test_a_key_expires_with_the_day_that_was_chosen(as_alice: Client) -> None:
    as_alice.post(reverse("key_create"), FORM | {"expires": "date", "expires_on": "2099-12-31"})
    assert ApiKey.objects.get().expires_at == dt.datetime(2099, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def test_limits_are_changed_and_the_secret_stays(as_alice: Client, key: ApiKey) -> None:
    page = reverse("key_edit", args=[key.pk])
    assert as_alice.get(page).status_code == 200
    form = {"name": "renamed", "expires": "never", "billing": "metered", "quota": "7", "window": "day"}
    assert as_alice.post(page, form).headers["Location"] == reverse("keys")
    changed = ApiKey.objects.get(pk=key.pk)
    assert (changed.name, changed.digest, changed.type) == ("renamed", key.digest, key.type)
    assert changed.revision > key.revision
    assert list(Budget.objects.values_list("cap", "window")) == [(money.parse("7"), "day")]
    as_alice.post(page, form | {"quota": ""})
    assert not Budget.objects.exists()


def test_an_untouched_form_changes_nothing(as_alice: Client, team: Team) -> None:
    moment = timezone.now() + dt.timedelta(days=3, hours=2)
    key, _ = services.issue(
        team_id=team.pk, spec=services.Spec(name="k", quota=money.parse("3"), window="week", expires_at=moment)
    )
    page = reverse("key_edit", args=[key.pk])
    form = as_alice.get(page).context["form"]
    as_alice.post(page, {name: form[name].value() or "" for name in form.fields})
    kept = ApiKey.objects.get(pk=key.pk)
    assert (kept.name, kept.expires_at, kept.billing) == ("k", moment, "metered")
    assert list(Budget.objects.values_list("cap", "window")) == [(money.parse("3"), "week")]


@pytest.mark.parametrize("endpoints", [["embeddings", "moderations"], ["of a later release"]])
def test_a_key_of_any_type_that_is_renamed_may_use_no_endpoint_more(
    as_alice: Client, team: Team, endpoints: list[str]
) -> None:
    key, _ = services.issue(team_id=team.pk, spec=services.Spec(name="from a program", endpoints=endpoints))
    page = reverse("key_edit", args=[key.pk])
    form = as_alice.get(page).context["form"]
    filled = {name: form[name].value() or "" for name in form.fields} | {"name": "renamed"}
    assert as_alice.post(page, filled).status_code == 302
    assert list(ApiKey.objects.values_list("name", "endpoints")) == [("renamed", endpoints)]
    as_alice.post(page, filled | {"endpoints": []})
    assert ApiKey.objects.get().endpoints == []


def test_a_key_that_has_expired_is_renamed_and_stays_expired(as_alice: Client, key: ApiKey) -> None:
    moment = timezone.now() - dt.timedelta(days=3)
    ApiKey.objects.filter(pk=key.pk).update(expires_at=moment)
    page = reverse("key_edit", args=[key.pk])
    form = as_alice.get(page).context["form"]
    filled = {name: form[name].value() or "" for name in form.fields}
    assert as_alice.post(page, filled | {"name": "renamed"}).status_code == 302
    renamed = ApiKey.objects.get(pk=key.pk)
    assert (renamed.name, renamed.expires_at) == ("renamed", moment)


def test_pausing_offers_to_undo(as_alice: Client, key: ApiKey) -> None:
    page = as_alice.post(reverse("key_pause", args=[key.pk]), follow=True).content.decode()
    assert ApiKey.objects.get(pk=key.pk).state == "paused"
    assert "Key “agent-prod” paused" in page
    assert f'action="{reverse("key_resume", args=[key.pk])}"' in page
    as_alice.post(reverse("key_resume", args=[key.pk]))
    assert ApiKey.objects.get(pk=key.pk).state == "active"


def test_dialogs_and_buttons_lead_back_to_the_list_as_it_was(as_alice: Client, key: ApiKey) -> None:
    asked = "?view=active&q=agent%26+prod"
    ApiKey.objects.filter(pk=key.pk).update(name="agent& prod")
    for name in ("key_pause", "key_resume"):
        answer = as_alice.post(reverse(name, args=[key.pk]) + asked)
        assert answer.headers["Location"] == reverse("keys") + asked
    page = html.unescape(as_alice.get(reverse("keys") + asked).content.decode())
    for name in ("key_edit", "key_pause", "key_revoke"):
        assert f'"{reverse(name, args=[key.pk])}{asked}"' in page
    assert f'action="{reverse("key_pause", args=[key.pk])}{asked}"' in page  # that undoes the last one
    for name in ("key_edit", "key_revoke"):
        dialog = html.unescape(as_alice.get(reverse(name, args=[key.pk]) + asked).content.decode())
        assert f'data-below="{reverse("keys")}{asked}"' in dialog
        assert dialog.count(f'href="{reverse("keys")}{asked}"') == 2  # its cross, and Cancel
    for name in ("key_edit", "key_revoke"):
        answer = as_alice.post(reverse(name, args=[key.pk]) + asked, FORM)
        assert answer.headers["Location"] == reverse("keys") + asked


def test_revoking_names_the_key_and_what_follows(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    for hours in (1, 2, 30):
        made.call(key, price, ago=dt.timedelta(hours=hours))
    page = reverse("key_revoke", args=[key.pk])
    asked = as_alice.get(page).content.decode()
    assert "Revoke “agent-prod”?" in asked
    assert "used 2 times in the last 24 hours" in asked
    as_alice.post(page)
    revoked = ApiKey.objects.get(pk=key.pk)
    assert (revoked.state, revoked.revoked_at is not None) == ("revoked", True)
    assert as_alice.get(page).status_code == 404
    assert key.name not in as_alice.get(reverse("keys")).content.decode()
    assert key.name in as_alice.get(reverse("keys") + "?view=revoked").content.decode()


def test_the_list_tells_spend_use_and_quota(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    Budget.objects.create(
        owner_kind="key", owner_id=key.pk, window="total", cap=money.parse("10"), used=money.parse("9"),
        starts_at=dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    )  # fmt: skip
    recent = made.call(key, price, ago=dt.timedelta(minutes=5))
    made.call(key, price, ago=dt.timedelta(days=40))
    (line,) = as_alice.get(reverse("keys")).context["listing"].lines
    assert (line.spend, line.last_used, line.percent) == (recent.cost, recent.created_at, 90)
    assert line.standing.word == "90 % used"


def test_the_list_sums_up_the_keys_that_were_asked_for(
    as_alice: Client, team: Team, key: ApiKey, price: PriceVersion
) -> None:
    other, _ = services.issue(team_id=team.pk, spec=services.Spec(name="another"))
    made.call(key, price, cost=money.parse("3"))
    made.call(other, price, cost=money.parse("4"))
    sums = {text: as_alice.get(reverse("keys"), {"q": text}).context["listing"].total for text in ("", "another")}
    assert sums == {"": money.parse("7"), "another": money.parse("4")}
    services.revoke(other)
    assert "spend $3.00 in 30 days" in as_alice.get(reverse("keys")).content.decode()
    assert "spend $4.00 in 30 days" in as_alice.get(reverse("keys"), {"view": "revoked"}).content.decode()


def test_views_and_their_counts_agree(as_alice: Client, team: Team, key: ApiKey, price: PriceVersion) -> None:
    made.call(key, price)
    soon = timezone.now() + dt.timedelta(days=2)
    expiring, _ = services.issue(team_id=team.pk, spec=services.Spec(name="soon", expires_at=soon))
    paused, _ = services.issue(team_id=team.pk, spec=services.Spec(name="paused"))
    services.pause(paused)
    gone, _ = services.issue(team_id=team.pk, spec=services.Spec(name="gone"))
    services.revoke(gone)
    expected = {
        "all": {key, expiring, paused},
        "active": {key, expiring},
        "expiring": {expiring},
        "unused": {expiring, paused},
        "revoked": {gone},
    }
    for view, keys in expected.items():
        listing = as_alice.get(reverse("keys") + f"?view={view}").context["listing"]
        assert {line.key for line in listing.lines} == keys
        assert {chip.view: chip.count for chip in listing.chips}[view] == len(keys)


def test_a_key_is_found_by_name_prefix_last_four_and_whole(as_alice: Client, team: Team) -> None:
    key, secret = services.issue(team_id=team.pk, spec=services.Spec(name="needle"))
    services.issue(team_id=team.pk, spec=services.Spec(name="hay"))
    for text in ("need", key.prefix, key.last_four, key.masked, secret):
        found = as_alice.get(reverse("keys"), {"q": text}).context["listing"].lines
        assert [line.key.name for line in found] == ["needle"]
    page = as_alice.get(reverse("keys"), {"q": "w7Qx!"}).content.decode()
    assert "No key is called or ends with “w7Qx!”." in page
