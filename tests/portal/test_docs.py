"""The documentation's pages: public, in two languages, with the reader's own values and the relay's own tables."""

import ast
import html
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.html import strip_tags

from billing.models import PriceVersion
from keys.models import ApiKey
from portal.docs import phrases, snippets, tables
from portal.docs.pages import PAGES
from relay.models import Channel
from relay.views.spec import AUTHENTICATION, spec
from tests.docs import test_samples
from tests.portal.test_frame import Inline
from tests.portal.test_keys import FORM, secret_in

ADDRESSES = ["/docs/", *(f"/docs/{slug}/" for slug in PAGES)]


def read(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def words(page: str) -> str:
    """What a reader sees."""
    return html.unescape(strip_tags(page))


@pytest.fixture
def offered(price: PriceVersion) -> str:
    Channel.objects.create(name="main", base_url="https://api.example.com/v1", models={price.model.name: "x"})
    return price.model.name


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_is_for_everyone_and_has_nothing_inline(db: None, client: Client, address: str, language: str) -> None:
    client.cookies["django_language"] = language
    page = read(client, address)
    checked = Inline()
    checked.feed(page)
    assert checked.found == []
    assert len(checked.ids) == len(set(checked.ids))
    assert set(re.findall(r'<use href="#icon-(\w+)"', page)) <= set(re.findall(r'<symbol id="icon-(\w+)"', page))
    assert set(re.findall(r'<a href="#([\w-]+)"', page)) <= set(checked.ids)
    current = re.findall(r'<a href="(\S+)" aria-current="page"', page)
    assert set(current) == {"/docs/", address}


def test_a_page_that_there_is_not_is_not_found(db: None, client: Client) -> None:
    assert client.get("/docs/nothing/").status_code == 404


def test_every_page_is_linked_from_the_index_and_from_every_other(db: None, client: Client) -> None:
    for address in ADDRESSES:
        page = read(client, address)
        assert all(f'href="{other}"' in page for other in ADDRESSES)


def test_samples_carry_the_reader_s_address_and_a_model_that_is_offered(client: Client, offered: str) -> None:
    pages = "".join(words(read(client, address)) for address in ADDRESSES)
    assert settings.BASE_URL in pages
    assert offered in pages
    assert snippets.BASE_URL not in pages
    assert snippets.MODEL not in pages


def test_every_sample_is_shown_on_a_page(db: None, client: Client) -> None:
    pages = {address: words(read(client, address)) for address in ADDRESSES}
    values = snippets.Values(base_url=settings.BASE_URL)
    for name in snippets.names():
        shown = [address for address, page in pages.items() if snippets.one(name, values).text in page]
        assert shown, name


def test_every_sample_is_run_by_a_test() -> None:
    source = (Path(__file__).parent.parent / "docs" / "test_tools.py").read_text()
    replayed = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    ran = {*test_samples.PROGRAMS, *test_samples.PHP, test_samples.LISTS}
    assert set(snippets.names()) - ran - replayed == set()


@pytest.mark.parametrize("name", snippets.names())
def test_marks_and_escapes_change_nothing_of_a_sample(name: str) -> None:
    for model in ("gpt-4o-mini", '"</code><script>x</script>&amp;'):
        sample = snippets.one(name, snippets.Values(model=model))
        assert "<script" not in sample.code
        assert html.unescape(re.sub(r'</?span(?: class="[ckso]")?>', "", sample.code)) == sample.text


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_the_tables_are_those_of_the_spec(db: None, client: Client, language: str) -> None:
    client.cookies["django_language"] = language
    told = client.get(reverse("spec")).json()
    codes, types = re.findall(r"<tbody>(.*?)</tbody>", read(client, "/docs/errors/"), re.DOTALL)
    served, ways = re.findall(r"<tbody>(.*?)</tbody>", read(client, "/docs/endpoints/"), re.DOTALL)
    with translation.override(language):
        for rows, table in ((told["errors"], codes), (told["endpoints"], served)):
            assert table.count("<tr>") == len(rows)
            assert all(html.escape(translation.gettext(row["description"])) in table for row in rows)
    assert all(f"<code>{row['code']}</code>" in codes for row in told["errors"])
    assert all(f"<code>{kind}</code>" in types for row in told["errors"] for kind in row["types"].values())
    assert all(f"<code>{row['path']}</code>" in served for row in told["endpoints"])
    assert all(html.escape(way["form"]) in ways for way in told["authentication"]["ways"])


def test_errors_stand_in_the_order_of_their_status() -> None:
    status = [row["http"] for row in tables.errors()]
    assert status == sorted(status)


def test_the_catalogue_has_every_sentence_of_the_relay_s_tables() -> None:
    told = spec()
    sentences = {row["description"] for row in [*told["errors"], *told["endpoints"]]}
    assert set(phrases.PHRASES) == sentences | {way["note"] for way in AUTHENTICATION if "note" in way}
    with translation.override("zh-hans"):
        assert [text for text in phrases.PHRASES if translation.gettext(text) == text] == []


def test_the_portal_leads_to_the_docs_and_back(as_alice: Client, client: Client, key: ApiKey) -> None:
    assert 'href="/docs/"' in read(as_alice, reverse("keys"))
    assert 'href="/docs/"' in read(client, reverse("pricing"))
    assert f'href="{reverse("overview")}">Overview' in read(as_alice, "/docs/")
    assert reverse("account_login") in read(client, "/docs/")


def test_whoever_has_made_a_key_gets_samples_with_it_and_the_way_to_the_docs(as_alice: Client, offered: str) -> None:
    answer = as_alice.post(reverse("key_create"), FORM)
    page, secret = answer.content.decode(), secret_in(answer.content)
    values = snippets.Values(base_url=settings.BASE_URL, key=secret, model=offered)
    for sample in snippets.group("openai/chat", values):
        assert sample.text in words(page)
    assert 'href="/docs/"' in page.partition("<dialog")[2]
