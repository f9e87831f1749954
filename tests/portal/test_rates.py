"""Rate limits through the pages: written in the key's form and the administration, shown where they hold."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from keys import services
from keys.models import ApiKey
from portal.models import Team, User
from tests.portal.test_keys import FORM

EDIT = {"name": "agent-prod", "expires": "never", "billing": "metered", "quota": "", "window": "day"}


def rates(owner: Any) -> tuple[int | None, ...]:
    owner.refresh_from_db()
    return owner.rpm, owner.tpm, owner.parallel


def test_a_key_is_made_with_its_rate_limits(as_alice: Client) -> None:
    answer = as_alice.post(reverse("key_create"), FORM | {"rpm": "60", "tpm": "40000", "parallel": "5"})
    assert answer.status_code == 201
    assert rates(ApiKey.objects.get()) == (60, 40_000, 5)


@pytest.mark.parametrize("nothing", ["", "0"])
def test_nothing_and_zero_are_no_limit(as_alice: Client, key: ApiKey, nothing: str) -> None:
    page = reverse("key_edit", args=[key.pk])
    as_alice.post(page, EDIT | {"rpm": "60", "tpm": "1", "parallel": "1"})
    assert rates(key) == (60, 1, 1)
    revision = key.revision
    assert as_alice.post(page, EDIT | {"rpm": nothing, "tpm": nothing, "parallel": nothing}).status_code == 302
    assert rates(key) == (None, None, None)
    assert key.revision > revision


def test_the_fold_is_open_where_something_is_in_it(as_alice: Client, key: ApiKey) -> None:
    page = reverse("key_edit", args=[key.pk])
    assert '<details class="fold">' in as_alice.get(page).content.decode()
    as_alice.post(page, EDIT | {"rpm": "60"})
    shown = as_alice.get(page).content.decode()
    assert '<details class="fold" open>' in shown
    assert 'value="60"' in shown
    wrong = as_alice.post(page, EDIT | {"tpm": "many"})
    assert wrong.status_code == 422
    assert '<details class="fold" open>' in wrong.content.decode()
    assert rates(key) == (60, None, None)


def test_the_page_of_limits_shows_the_keys_and_the_teams(as_alice: Client, key: ApiKey, team: Team) -> None:
    page = reverse("limits")
    assert "a minute" not in as_alice.get(page).content.decode()
    services.change(key, services.Spec(name="agent-prod", rpm=60, parallel=1))
    team.tpm = 1_500_000
    team.save()
    shown = as_alice.get(page).content.decode()
    for words in ("<b>60</b> requests a minute", "<b>1</b> call at once", "<b>1,500,000</b> tokens a minute"):
        assert words in shown
    assert "No limit" not in shown


def test_the_installations_defaults_are_shown_as_the_teams(as_alice: Client, team: Team, settings: Any) -> None:
    settings.DEFAULT_RPM, settings.DEFAULT_PARALLEL = 120, 8
    team.rpm = 30
    team.save()
    shown = as_alice.get(reverse("limits")).content.decode()
    assert "<b>30</b> requests a minute" in shown
    assert "<b>8</b> calls at once" in shown


def test_a_member_cannot_set_the_teams(as_alice: Client, team: Team) -> None:
    assert as_alice.post(reverse("admin:portal_team_change", args=[team.pk]), {"rpm": "1000"}).status_code in (302, 403)
    assert rates(team) == (None, None, None)


@pytest.mark.parametrize("field", ["rpm", "tpm", "parallel"])
@pytest.mark.parametrize("owner", ["key", "team"])
def test_the_database_takes_no_zero(key: ApiKey, team: Team, field: str, owner: str) -> None:
    row = {"key": ApiKey.objects.filter(pk=key.pk), "team": Team.objects.filter(pk=team.pk)}[owner]
    with pytest.raises(IntegrityError), transaction.atomic():
        row.update(**{field: 0})
    row.update(**{field: 1})


def test_the_administrations_form_sets_a_teams_limits(team: Team, db: None) -> None:
    staff = Client()
    staff.force_login(User.objects.create_superuser("root@example.com", "x"))
    page = reverse("admin:portal_team_change", args=[team.pk])
    empty = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    assert staff.get(page).status_code == 200
    answer = staff.post(page, empty | {"rpm": "100", "tpm": "", "parallel": "9", "name": "renamed"})
    assert answer.status_code == 302
    assert rates(team) == (100, None, 9)
    assert team.name != "renamed"
    assert staff.post(page, empty | {"rpm": "0"}).status_code == 200
    assert rates(team) == (100, None, 9)
    assert staff.get(reverse("admin:portal_team_add")).status_code == 403
