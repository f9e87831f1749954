"""Every page says who may see it, and is seen by nobody else."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from billing.models import PriceVersion
from keys.models import ApiKey
from portal.access import ELSEWHERE, Access
from tests.portal import made

LOGIN = "/accounts/login/"
PARTS: dict[str, dict[str, Any]] = {
    "account_confirm_email": {"key": "x"},
    "account_reset_password_from_key": {"uidb36": "1", "key": "x-y"},
}


def routes(patterns: list[Any], namespace: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in patterns:
        if isinstance(entry, URLResolver):
            yield from routes(entry.url_patterns, entry.namespace or namespace)
        else:
            yield namespace, entry


def declared(namespace: str, route: URLPattern) -> Access | None:
    if namespace == "admin":
        return Access.STAFF
    return getattr(route.callback, "access", None) or ELSEWHERE.get(route.name or "")


def address(route: URLPattern) -> str:
    name = route.name or ""
    parts = dict(PARTS.get(name, {}))
    for part, converter in route.pattern.converters.items():
        parts.setdefault(part, uuid.uuid4() if type(converter).__name__ == "UUIDConverter" else 1)
    return reverse(name, kwargs=parts)


ALL = list(routes(get_resolver().url_patterns))
OURS = [route for namespace, route in ALL if namespace != "admin"]


def test_every_route_declares_who_may_see_it() -> None:
    undeclared = [str(route.pattern) for namespace, route in ALL if declared(namespace, route) is None]
    assert undeclared == []


@pytest.mark.parametrize("route", OURS, ids=lambda route: route.name)
def test_whoever_has_not_signed_in_is_sent_to_sign_in_from_all_but_public_pages(
    db: None, client: Client, route: URLPattern
) -> None:
    answer = client.get(address(route))
    if declared("", route) is Access.PUBLIC:
        # `next` means that the page itself was asked for; steps of a sign-in lead back to its beginning without it.
        assert not answer.headers.get("Location", "").startswith(f"{LOGIN}?next=")
        assert answer.status_code < 500
    elif declared("", route) is Access.API:
        assert answer.status_code in (401, 403)
        assert answer.json().keys() == {"detail"}
    else:
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith(LOGIN)


def test_a_form_that_was_sent_after_the_session_had_ended_is_said_to_have_done_nothing(as_alice: Client) -> None:
    before = ApiKey.objects.count()
    as_alice.session.flush()
    page = "http://testserver/keys/?view=active&q=a"
    answer = as_alice.post(reverse("key_create"), {"name": "typed at length"}, headers={"Referer": page})
    assert answer.headers["Location"] == f"{LOGIN}?next=/keys/%3Fview%3Dactive%26q%3Da"
    assert "nothing was changed" in as_alice.get(answer.headers["Location"]).content.decode()
    assert ApiKey.objects.count() == before


@pytest.mark.parametrize(
    "page", ["", "http://elsewhere.example/keys/", "http://testserver//elsewhere.example/", "http://["]
)
def test_nobody_is_led_back_to_a_page_of_somebody_else(db: None, client: Client, page: str) -> None:
    answer = client.post(reverse("key_create"), {}, headers={"Referer": page} if page else {})
    assert answer.headers["Location"] == f"{LOGIN}?next=/"


def test_the_administration_is_for_staff(as_alice: Client) -> None:
    assert as_alice.get(reverse("admin:index")).headers["Location"].startswith("/admin/login/")
    assert b"/admin/" not in as_alice.get(reverse("account")).content


def test_staff_find_the_way_to_the_administration(as_alice: Client, alice: Any) -> None:
    alice.is_staff = True
    alice.save()
    assert b'href="/admin/"' in as_alice.get(reverse("account")).content


@pytest.mark.parametrize("name", ["key_edit", "key_revoke"])
def test_a_key_of_another_team_does_not_exist(as_charlie: Client, as_alice: Client, key: ApiKey, name: str) -> None:
    assert as_alice.get(reverse(name, args=[key.pk])).status_code == 200
    assert as_charlie.get(reverse(name, args=[key.pk])).status_code == 404


@pytest.mark.parametrize("name", ["key_edit", "key_revoke", "key_pause", "key_resume"])
def test_a_key_of_another_team_cannot_be_touched(as_charlie: Client, key: ApiKey, name: str) -> None:
    assert as_charlie.post(reverse(name, args=[key.pk])).status_code == 404
    before = ApiKey.objects.get(pk=key.pk)
    assert (before.state, before.name, before.revision) == (key.state, key.name, key.revision)


def test_calls_of_another_team_are_seen_nowhere(
    as_charlie: Client, as_alice: Client, key: ApiKey, price: PriceVersion
) -> None:
    call = made.call(key, price)
    assert as_alice.get(reverse("call", args=[call.pk])).status_code == 200
    assert as_charlie.get(reverse("call", args=[call.pk])).status_code == 404
    for query in ("", f"?key={key.pk}", f"?q={call.pk}", f"?model={call.model}"):
        assert as_charlie.get(reverse("usage") + query).context["page"].calls == []


def test_bob_looks_at_his_own_team_and_not_at_alices(as_bob: Client, key: ApiKey) -> None:
    assert key.name not in as_bob.get(reverse("keys")).content.decode()
    assert as_bob.get(reverse("key_edit", args=[key.pk])).status_code == 404


@pytest.mark.parametrize("name", ["key_pause", "key_resume"])
def test_what_changes_a_key_is_posted(as_alice: Client, key: ApiKey, name: str) -> None:
    assert as_alice.get(reverse(name, args=[key.pk])).status_code == 405


def test_a_form_without_its_token_is_refused(alice: Any, key: ApiKey) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    answer = strict.post(reverse("key_revoke", args=[key.pk]))
    assert answer.status_code == 403
    assert "The form has expired" in answer.content.decode()
    assert ApiKey.objects.get(pk=key.pk).state == "active"
