"""Issuing and changing keys: what is stored, what is refused, what is never silently accepted."""

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest
from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.utils import timezone

from billing import revisions
from billing.models import Budget
from keys import services, tokens
from keys.models import ApiKey
from portal import services as portal_services
from portal.models import Team
from relay import services as channels
from relay import snapshot


def issue(team: Team, **spec: Any) -> tuple[ApiKey, str]:
    return services.issue(team_id=team.pk, spec=services.Spec(**{"name": "mine", **spec}))


def test_only_the_digest_and_the_shown_parts_are_stored(team: Team) -> None:
    key, token = issue(team)
    stored = ApiKey.objects.filter(pk=key.pk).values().get()
    assert tokens.is_genuine(token)
    assert token not in str(stored)
    assert token[15:43] not in str(stored)
    assert stored["digest"] == services.digest(token)
    assert len(stored["digest"]) == 64
    assert (stored["prefix"], stored["last_four"]) == (token[:11], token[-4:])


def test_a_key_that_was_read_before_a_change_is_not_remembered_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would keep its old multiplier, or its team's old caps, for as long as the process lives."""
    old = services.Principal(
        key=1, team=1, account=1, multiplier=1_000_000, budgets=(), billing="metered", state="active",
        expires_at=None, models=frozenset(), endpoints=frozenset(), networks=(),
    )  # fmt: skip

    def read(digest: str) -> services.Principal:
        services.forget_all()  # the poller, while the database answers
        return old

    token = tokens.new()
    monkeypatch.setattr(services, "_read", read)
    assert asyncio.run(services.authenticate(token)) is old
    monkeypatch.setattr(services, "_read", lambda digest: msgspec.structs.replace(old, multiplier=5))
    assert asyncio.run(services.authenticate(token)).multiplier == 5
    services.forget_all()


def test_the_digest_depends_on_the_pepper(settings: Any) -> None:
    token = tokens.new()
    one = services.digest(token)
    settings.KEY_PEPPER = "another pepper"
    assert services.digest(token) != one


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "root"),
        ("payment", "free"),
        ("billing", "never"),
        ("window", "year"),
        ("name", "   "),
        ("name", "x" * 101),
        ("quota", 0),
        ("quota", -1),
        ("expires_at", dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        ("networks", ["10.0.0.0/33"]),
        ("networks", ["everywhere"]),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(team: Team, field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        issue(team, **{field: value})
    assert list(refused.value.message_dict) == [field]
    assert not ApiKey.objects.exists()


def test_a_restricted_key_names_what_it_may_do(team: Team) -> None:
    with pytest.raises(ValidationError):
        issue(team, type="restricted")
    with pytest.raises(ValidationError):
        services.issue(
            team_id=team.pk,
            spec=services.Spec(name="mine", type="restricted", models=["unknown"]),
            known_models={"chat"},
        )
    assert issue(team, type="restricted", endpoints=["models"])[0].endpoints == ["models"]


def test_networks_are_stored_in_their_canonical_form(team: Team) -> None:
    key, _ = issue(team, networks=[" 10.1.2.3 ", "10.0.0.7/8", "2001:DB8::1/32"])
    assert key.networks == ["10.1.2.3/32", "10.0.0.0/8", "2001:db8::/32"]


def test_a_revoked_key_stays_revoked(team: Team) -> None:
    key, _ = issue(team)
    services.revoke(key)
    for again in (services.resume, services.pause, services.revoke):
        again(key)
        key.refresh_from_db()
        assert key.state == "revoked"
    assert key.revoked_at is not None


def test_a_quota_is_one_budget_row_that_follows_its_window(team: Team) -> None:
    key, _ = issue(team, quota=5, window="day")
    (budget,) = Budget.objects.filter(owner_id=key.pk, owner_kind="key")
    assert (budget.cap, budget.window) == (5, "day")
    services.change(key, services.Spec(name="mine", quota=7, window="month"))
    (budget,) = Budget.objects.filter(owner_id=key.pk, owner_kind="key")
    assert (budget.cap, budget.window) == (7, "month")
    services.change(key, services.Spec(name="mine"))
    assert not Budget.objects.exists()


def test_a_key_in_an_ipv6_suit_is_recognised(team: Team) -> None:
    key, _ = issue(team, networks=["192.0.2.0/24", "2001:db8::/32"])
    principal = services._principal(key)
    assert principal.may_come_from("192.0.2.7")
    assert principal.may_come_from("::ffff:192.0.2.7")
    assert principal.may_come_from("2001:db8::9")
    for other in ("192.0.3.7", "::1", "", "unix", "192.0.2.7.8"):
        assert not principal.may_come_from(other)


@pytest.mark.parametrize("token", [None, "", "sk-1", "pisces-" + "A" * 40])
def test_a_token_without_a_good_checksum_is_refused_without_a_look_up(token: str | None) -> None:
    # Without the `db` fixture any look-up would fail loudly.
    with pytest.raises(services.InvalidKey):
        asyncio.run(services.authenticate(token))


def test_an_expiry_in_the_future_is_kept(team: Team) -> None:
    moment = timezone.now() + dt.timedelta(days=1)
    assert issue(team, expires_at=moment)[0].expires_at == moment


def test_keys_that_changed_while_the_database_broke_off_are_dropped_at_the_next_look(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, token = issue(team)
    services.forget_changed(revisions.current()["keys"])
    services._cache.remember(services.digest(token), services._principal(key))
    services.revoke(key)
    now = revisions.current()["keys"]
    with monkeypatch.context() as broken:
        broken.setattr(ApiKey.objects, "filter", _broken_off)
        with pytest.raises(OperationalError):
            services.forget_changed(now)
    services.forget_changed(now)
    assert services.digest(token) not in services._cache.known


def _broken_off(**_: Any) -> Any:
    raise OperationalError("server closed the connection unexpectedly")


# ---- rate limits ----------------------------------------------------------------------------------------------------


def principal_of(token: str) -> services.Principal:
    services.forget_all()
    return asyncio.run(services.authenticate(token))


def most(principal: services.Principal) -> dict[str, int]:
    return {limit.name.removeprefix("pisces:limits:"): limit.most for s in principal.scopes for limit in s.limits}


def test_a_principal_without_rate_limits_has_none_to_ask(books: str) -> None:
    team = made_team()
    _key, token = issue(team)
    assert principal_of(token).scopes == ()


def test_a_principal_has_the_limits_of_the_key_and_of_the_team(books: str, settings: Any) -> None:
    team = made_team()
    key, token = issue(team, rpm=60, parallel=3)
    team.tpm = 5000
    portal_services.set_rates(team)
    settings.DEFAULT_RPM = 100
    settings.DEFAULT_TPM = 1
    assert most(principal_of(token)) == {
        f"key:{key.pk}:requests": 60,
        f"key:{key.pk}:parallel": 3,
        f"team:{team.pk}:requests": 100,
        f"team:{team.pk}:tokens": 5000,
    }


def test_changed_limits_of_a_team_are_known_after_the_next_look(books: str) -> None:
    team = made_team()
    _key, token = issue(team)
    portal_services.set_rates(team)
    snapshot.refresh()
    assert asyncio.run(services.authenticate(token)).scopes == ()
    team.rpm, team.parallel = 7, 0
    portal_services.set_rates(team)
    assert asyncio.run(services.authenticate(token)).scopes == ()
    snapshot.refresh()
    assert list(most(asyncio.run(services.authenticate(token))).values()) == [7]
    assert Team.objects.get(pk=team.pk).parallel is None


@pytest.mark.parametrize("field", ["rpm", "tpm", "parallel"])
@pytest.mark.parametrize("value", [-1, 1_000_000_001])
def test_a_limit_that_cannot_be_is_refused_everywhere(team: Team, field: str, value: int) -> None:
    with pytest.raises(ValidationError) as refused:
        issue(team, **{field: value})
    assert field in refused.value.message_dict
    setattr(team, field, value)
    with pytest.raises(ValidationError) as refused:
        portal_services.set_rates(team)
    assert field in refused.value.message_dict
    spec: dict[str, Any] = {"name": "c", "base_url": "https://8.8.8.8", "models": {}, field: value}
    with pytest.raises(ValidationError) as refused:
        channels.check(channels.ChannelSpec(**spec))
    assert field in refused.value.message_dict


def made_team() -> Team:
    user, team = portal_services.user_with_team("alice@example.com")
    assert user.pk
    return team
