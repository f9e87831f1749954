"""What every page has: its policy, its language, its theme; and nothing inline."""

import asyncio
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import AsyncClient, Client, RequestFactory
from django.urls import reverse
from django.utils import translation
from django.views.defaults import server_error

from billing.models import PriceVersion
from keys.models import ApiKey
from portal.models import User
from tests.portal import made


class Inline(HTMLParser):
    """Collects what the policy would refuse, and ids that are used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in names if name == "style" or name.startswith("on")]
        self.found += [f"{tag} {value}" for value in names.values() if (value or "").startswith("javascript:")]
        if names.get("id"):
            self.ids.append(str(names["id"]))


def pages(client: Client, key: ApiKey, price: PriceVersion) -> list[str]:
    call = made.call(key, price)
    made.attempt(call)
    names = ("overview", "keys", "key_create", "usage", "pricing", "account", "account_email", "mfa_index")
    return [
        *(reverse(name) for name in names),
        reverse("account_change_password"),
        reverse("account_logout"),
        reverse("key_edit", args=[key.pk]),
        reverse("key_revoke", args=[key.pk]),
        reverse("call", args=[call.pk]),
        "/nothing/here/",
    ]


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_no_page_has_inline_style_or_script_or_one_id_twice(
    as_alice: Client, key: ApiKey, price: PriceVersion, language: str
) -> None:
    as_alice.cookies["django_language"] = language
    for address in pages(as_alice, key, price):
        answer = as_alice.get(address)
        html = answer.content.decode()
        checked = Inline()
        checked.feed(html)
        assert checked.found == [], address
        assert len(checked.ids) == len(set(checked.ids)), address
        assert f'<html lang="{"zh-Hans" if language == "zh-hans" else "en"}"' in html
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert "unsafe" not in policy


@pytest.mark.parametrize(
    "name", ["account_login", "account_signup", "account_reset_password", "account_reset_password_done", "pricing"]
)
def test_public_pages_have_nothing_inline_either(db: None, client: Client, name: str) -> None:
    checked = Inline()
    checked.feed(client.get(reverse(name)).content.decode())
    assert checked.found == []


def test_every_icon_that_is_used_is_drawn(as_alice: Client, key: ApiKey, price: PriceVersion) -> None:
    for address in pages(as_alice, key, price):
        html = as_alice.get(address).content.decode()
        drawn = set(re.findall(r'<symbol id="icon-(\w+)"', html))
        assert set(re.findall(r'<use href="#icon-(\w+)"', html)) <= drawn


def test_the_language_is_chosen_before_signing_in_and_stays(db: None, client: Client) -> None:
    answer = client.post(reverse("set_language"), {"language": "zh-hans", "next": "/accounts/login/"})
    assert answer.headers["Location"] == "/accounts/login/"
    page = client.get("/accounts/login/").content.decode()
    assert "登录 Pisces" in page
    assert '<html lang="zh-Hans"' in page


def test_the_theme_is_rendered_from_its_cookie(db: None, client: Client) -> None:
    assert "data-theme" not in client.get("/pricing/").content.decode().partition("<head>")[0]
    client.cookies["theme"] = "dark"
    assert 'data-theme="dark"' in client.get("/pricing/").content.decode()
    client.cookies["theme"] = '"><script>'
    assert "data-theme=" not in client.get("/pricing/").content.decode().partition("<head>")[0]


def test_the_current_page_is_marked(as_alice: Client) -> None:
    html = as_alice.get(reverse("keys")).content.decode()
    assert re.findall(r'href="(\S+)" aria-current="page"', html) == [reverse("keys")]


def test_what_is_not_there_says_so_in_the_portals_look(as_alice: Client, client: Client) -> None:
    for browser in (as_alice, client):
        answer = browser.get("/nothing/here/")
        assert answer.status_code == 404
        assert "There is nothing here" in answer.content.decode()


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        ({}, True),
        ({"authorization": "Basic cHJveHk6cGFzc3dvcmQ=", "accept": "text/html,*/*;q=0.8"}, True),
        ({"x-api-key": "pisces-x", "accept": "application/json", "anthropic-version": "2023-06-01"}, False),
    ],
    ids=["nobody", "a browser behind a password", "a program"],
)
def test_only_a_program_with_a_key_gets_an_error_of_its_protocol_for_what_is_not_there(
    db: None, headers: dict[str, str], page: bool
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Any = {"path": "/nothing/here/", "headers": raw, "query_string": b""}  # all in bytes, as a server has it
    answer = asyncio.run(AsyncClient().request(**scope))
    assert answer.status_code == 404
    if page:
        assert "There is nothing here" in answer.content.decode()
    else:
        assert answer["request-id"] == answer.json()["request_id"]
        assert answer.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("keys", "q"), ("pricing", "q"), ("pricing", "provider"), ("usage", "q"), ("usage", "model"),
        ("usage", "channel"), ("usage_calls", "model"), ("usage_sums", "channel"), ("statement_csv", "zone"),
        ("account_login", "next"), ("admin:keys_apikey_changelist", "q"), ("admin:keys_apikey_changelist", "state"),
    ],
)  # fmt: skip
def test_an_address_with_a_nul_is_refused_in_the_portals_look(books: str, name: str, query: str) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.com", "x"))
    refused = client.get(f"{reverse(name)}?{query}=gpt%00")
    assert refused.status_code == 400
    assert "This cannot be read" in refused.content.decode()


def test_the_page_of_a_failure_needs_nothing_that_can_fail() -> None:
    answer = server_error(RequestFactory().get("/"))
    assert "Something failed on our side" in answer.content.decode()
    with translation.override("zh-hans"):
        assert "服务出错了" in render_to_string("500.html")
