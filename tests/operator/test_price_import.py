"""Prices from the package and from files: what is read, what is refused with its line, and the pages that decide."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Provider as Vendor
from kombu.exceptions import OperationalError

from billing import catalog, groups, money, prices
from billing.models import CatalogModel, ModelKind, PriceGroup, PriceVersion
from billing.proposal_models import MarginRule, PriceProposal
from portal import proposing, tasks
from portal.celery import app
from portal.configuration.nodes import InvalidFile
from portal.models import User
from portal.price_sources import genai
from tests.operator.test_admin import _errors, _group_form, _model_form

pytestmark = pytest.mark.django_db

YAML = """
models:
  - name: long
    kind: chat
    provider: Acme
    context_window: 200000
    max_output: 8000
    capabilities: {tools: false}
    price: {input: 1.25, output: "10", tiers: [{above: 200000, input: "2.5"}]}
  - name: painter
    kind: image
    price: {per_image: {1024x1024/low: "0.011", default: "0.04"}}
"""
CSV = """model,provider,kind,context_window,max_output,description,input,cache_read,output,characters,per_image
long,Acme,chat,200000,8000,"reads, and writes",1.25,0.31,10,,
speaker,Acme,speech,,,,,,,15,
"""


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.com", "x"))
    return client


def _run(source: object, *arguments: str) -> list[str]:
    out = StringIO()
    call_command("import_prices", "--from", str(source), *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().splitlines()


def _refused(source: object, *arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        _run(source, *arguments)
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to


def _sell(name: str, **written: str) -> CatalogModel:
    row = catalog.save_model(name=name, provider="Acme")
    catalog.set_price(row, prices.parse_card(written), actor="tests")
    return row


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_proposed_with_its_limits_capabilities_and_every_kind_of_price(write: Callable[..., Path]) -> None:
    assert _run(write("new.yaml", YAML)) == [
        "+ long: input 1.25, output 10; above 200000: input 2.5",
        "+ painter: per_image 0.04 (1024x1024/low 0.011)",
        f"proposal {PriceProposal.objects.get().pk}: an administrator accepts it in the administration",
    ]
    assert not CatalogModel.objects.exists()
    item = PriceProposal.objects.get().items.get(model="long")
    assert {name: after for name, (_before, after) in item.facts.items()} == {
        "kind": "chat", "provider": "Acme", "context_window": 200000, "max_output": 8000,
        "capabilities": {"tools": False},
    }  # fmt: skip


def test_a_dry_run_says_the_same_and_stores_nothing(write: Callable[..., Path]) -> None:
    assert len(_run(write("new.yaml", YAML), "--dry-run")) == 2
    assert not PriceProposal.objects.exists()


def test_a_table_is_read_by_its_columns(write: Callable[..., Path]) -> None:
    assert _run(write("new.csv", "\ufeff" + CSV.replace("\n", "\r\n")), "--dry-run") == [
        "+ long: input 1.25, cache_read 0.31, output 10",
        "+ speaker: characters 15",
    ]


def test_json_is_read_as_the_yaml_that_it_is(write: Callable[..., Path]) -> None:
    text = '{"models": [{"name": "m", "price": {"input": "0.5"}}]}'
    assert _run(write("new.json", text), "--dry-run") == ["+ m: input 0.5"]


def test_a_files_prices_are_a_providers_where_that_is_said(write: Callable[..., Path]) -> None:
    path = write("list.csv", "model,provider,input\nm,acme,1\nother,else,1\n")
    MarginRule.objects.create(provider="acme", multiplier=1_500_000, exchange=2 * money.NANO, adds=True)
    assert _run(path, "--list-prices", "--dry-run", "--currency", "eur") == ["+ m: input 3"]
    assert "m: its price is in EUR, the ledger in USD" in _refused(path, "--currency", "eur")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.txt", "", "a file of prices ends in .yaml"),
        ("x.yaml", "", "the file is empty"),
        ("x.yaml", "models: [", "line 1: this is not YAML"),
        ("x.yaml", "a: 1\nmodels: []", "line 1: a: this is unknown"),
        ("x.yaml", "groups: []", "the section `models`, and no other"),
        ("x.yaml", "models:\n  - name: m\n", "line 2: models[0].price: a price is needed"),
        ("x.yaml", "models:\n  - name: m\n    price: {input: 1e3}\n", "line 3: models[0].price.input: '1e3' is not"),
        ("x.yaml", "models:\n  - {name: m, price: {input: 1}, valid_from: 2999-01-01}", "line 2: models[0].valid_from"),
        ("x.yaml", "models:\n  - {name: m, price: {input: 1}, active: false}", "line 2: models[0].active"),
        ("x.yaml", b"models:\n\xff", "line 2: this is not UTF-8"),
        ("x.csv", "", "`model` is one of them"),
        ("x.csv", "model\n", "the table has no models"),
        ("x.csv", "model,inputs\n", "line 1: the column 'inputs' is unknown"),
        ("x.csv", "model,input,input\n", "line 1: a column is there twice"),
        ("x.csv", "model,input\nm,1\nn,-2\n", "line 3: input: the amount must not be negative"),
        ("x.csv", "model,input\nm,1\nm,2\n", "line 3: model: there are two of the name 'm'"),
        ("x.csv", "model,input\nm\n", "line 2: there are more or fewer fields"),
        ("x.csv", "model,input\nm,1,2\n", "line 2: there are more or fewer fields"),
        ("x.csv", "model,input\n,1\n", "line 2: model: a name is needed"),
        ("x.csv", "model,input\nm,\n", "line 2: a price card needs at least one price"),
        ("x.csv", "model,kind,input\nm,poem,1\n", "line 2: kind: 'poem' is unknown"),
        ("x.csv", "model,context_window,input\nm,²,1\n", "line 2: context_window: '²' is not a whole number"),
        ("x.csv", "model,max_output,input\nm,0,1\n", "line 2: max_output: '0' is not a whole number"),
        ("x.csv", f"model,input\n{'m' * 201},1\n", "line 2: model: at most 200 printable characters"),
        ("x.csv", 'model,input\n"m,1\n', "this is not CSV"),
    ],
)
def test_a_broken_file_is_refused_with_line_and_reason(
    write: Callable[..., Path], name: str, content: str | bytes, said: str
) -> None:
    assert said in (told := _refused(write(name, content)))
    assert "Nothing was proposed." in told
    assert not PriceProposal.objects.exists()


def test_every_problem_of_a_table_is_told(write: Callable[..., Path]) -> None:
    told = _refused(write("x.csv", "model,input\nm,x\nn,y\n"))
    assert "line 2: input: 'x' is not an amount" in told
    assert "line 3: input: 'y' is not an amount" in told


def test_a_file_that_is_too_large_or_not_there_is_refused(write: Callable[..., Path]) -> None:
    assert "larger than 4 MiB" in _refused(write("x.csv", "#" * (4 * 1024 * 1024 + 1)))
    assert "No such file" in _refused("/nowhere/x.csv")


# ---- the package ----------------------------------------------------------------------------------------------------


def test_without_rules_the_package_proposes_nothing() -> None:
    _sell("gpt-4o-mini", input="1")
    assert tasks.propose_prices() is None
    assert _run("genai-prices") == ["nothing to change"]


def test_the_package_is_compared_by_the_rules_every_day_and_proposed_once() -> None:
    _sell("gpt-4o-mini", input="0.15", output="0.6")
    MarginRule.objects.create(provider="openai", multiplier=1_200_000)
    MarginRule.objects.create(provider="anthropic", model="claude-haiku-4-5", adds=True, position=20)
    made = tasks.propose_prices()
    assert made is not None
    assert tasks.propose_prices() == made
    proposal = PriceProposal.objects.get()
    assert (proposal.source, proposal.actor) == ("genai-prices", "schedule")
    old, new = proposal.items.order_by("-model")
    assert (old.model, old.change, old.new_card) == (
        "gpt-4o-mini", "changed", {"input": "0.18", "cache_read": "0.09", "output": "0.72", "per_search": "0.012"},
    )  # fmt: skip
    assert (new.model, new.change, new.facts["context_window"]) == ("claude-haiku-4-5", "new", [None, 200000])
    assert CatalogModel.objects.count() == 1


def test_a_model_that_the_package_knows_by_another_name_is_compared_too() -> None:
    (found,) = (one for one in genai.read(known=["gpt-4o-mini-2024-07-18"]).models if one.model.endswith("07-18"))
    assert (found.provider, found.card.rates["output"]) == ("openai", 600_000_000)


def test_a_list_in_dollars_stops_a_ledger_in_another_currency(settings: Any) -> None:
    settings.CURRENCY = "CNY"
    _sell("gpt-4o-mini", input="1")
    MarginRule.objects.create(provider="openai")
    assert "in USD, the ledger in CNY: give the rule an exchange rate" in _refused("genai-prices")
    assert tasks.propose_prices() is None


def test_everything_that_the_package_lists_makes_a_card_or_has_a_reason() -> None:
    listing = genai.read()
    assert len(listing.models) > 1000
    assert listing.edition.startswith("genai-prices ")
    for one in listing.models:
        assert prices.parse_card(prices.write_card(one.card)) == one.card
        assert one.kind in ModelKind.values
    reasons = {reason.partition(": ")[2].partition(" for ")[0] for reason in listing.skipped}
    assert reasons <= {"no price is given", "there is no bucket", "its name is too long"}


def _info(name: str, price: ModelPrice | list[ConditionalPrice]) -> ModelInfo:
    return ModelInfo(id=name, match=ClauseEquals(equals=name), prices=price)


def _read(monkeypatch: pytest.MonkeyPatch, *infos: ModelInfo) -> tuple[dict[str, str], list[str]]:
    vendor = Vendor(id="acme", name="Acme", api_pattern="", models=list(infos))
    monkeypatch.setattr(genai, "providers", [vendor])
    listing = genai.read()
    return {one.model: prices.describe(one.card) for one in listing.models}, list(listing.skipped)


def test_the_packages_units_become_our_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    tiered = TieredPrices(base=Decimal("1"), tiers=[Tier(start=200_000, price=Decimal("2"))])
    found, skipped = _read(
        monkeypatch,
        _info("long", ModelPrice(input_mtok=tiered, output_mtok=Decimal("4"), web_searches_kcount=Decimal("10"))),
        _info(
            "keeps",
            ModelPrice(input_mtok=Decimal("4"), cache_write_mtok=Decimal("5"), cache_write_1h_mtok=Decimal("8")),
        ),
        _info("whisper", ModelPrice(audio_hours=Decimal("0.36"))),
        _info("odd", ModelPrice(audio_hours=Decimal("1"))),
        _info("tts", ModelPrice(input_mchars=Decimal("15"))),
        _info("calls", ModelPrice(requests_kcount=Decimal("5"))),
        _info("both", ModelPrice(input_mtok=Decimal("1"), requests_kcount=Decimal("5"))),
        _info("ocr", ModelPrice(input_document_kpages=Decimal("1"))),
        _info("free", ModelPrice()),
        _info("painter", ModelPrice(output_mtok=Decimal("2"), output_image_mtok=Decimal("30"))),
        _info("sees", ModelPrice(input_mtok=Decimal("1"), input_image_mtok=Decimal("1"), output_mtok=Decimal("2"))),
    )
    assert found == {
        "long": "input 1, output 4, per_search 0.01; above 200000: input 2",
        "keeps": "input 4, cache_write 5, cache_write_1h 8",
        "whisper": "per_second 0.0001",
        "odd": "per_second 0.000277778",
        "tts": "characters 15",
        "calls": "per_call 0.005",
        "sees": "input 1, output 2",
    }
    assert skipped == [
        "acme both: there is no bucket for requests_kcount beside other prices",
        "acme ocr: there is no bucket for input_document_kpages",
        "acme free: no price is given",
        "acme painter: there is no bucket for output_image_mtok, which is dearer than other tokens",
    ]


def test_the_price_of_today_counts_and_by_the_hour_the_dearest(monkeypatch: pytest.MonkeyPatch) -> None:
    today = timezone.now().date()
    day = dt.timedelta(days=1)

    def since(start: dt.date, price: str) -> ConditionalPrice:
        return ConditionalPrice(StartDateConstraint(start), prices=ModelPrice(input_mtok=Decimal(price)))

    first = ConditionalPrice(prices=ModelPrice(input_mtok=Decimal("1")))
    night = TimeOfDateConstraint(dt.time(0, tzinfo=dt.UTC), dt.time(8, tzinfo=dt.UTC))
    found, _skipped = _read(
        monkeypatch,
        _info("dated", [first, since(today - day, "2"), since(today + day, "3")]),
        _info("later", [first, since(today + day, "3")]),
        _info("hourly", [first, ConditionalPrice(night, prices=ModelPrice(input_mtok=Decimal("0.5")))]),
        _info("daily", [first, ConditionalPrice(night, prices=ModelPrice(input_mtok=Decimal("1.5")))]),
    )
    assert found == {"dated": "input 2", "later": "input 1", "hourly": "input 1", "daily": "input 1.5"}


# ---- the pages ------------------------------------------------------------------------------------------------------


def _upload(staff: Client, name: str, content: str, **fields: str) -> Any:
    file = SimpleUploadedFile(name, content.encode())
    return staff.post(reverse("admin:billing_priceproposal_import"), {"file": file, **fields})


def _page(proposal: PriceProposal) -> str:
    return reverse("admin:billing_priceproposal_change", args=[proposal.pk])


def test_a_file_is_uploaded_reviewed_and_accepted_with_its_date(staff: Client) -> None:
    _sell("long", input="1", output="10")
    answer = _upload(staff, "new.csv", CSV)
    proposal = PriceProposal.objects.get()
    assert answer["Location"] == _page(proposal)
    page = staff.get(_page(proposal)).content.decode()
    for told in ("long", "speaker", "1.25", "+25.0 %", "−69.0 %", "root@example.com"):
        assert told in page
    later = timezone.now() + dt.timedelta(days=3)
    ids = dict(proposal.items.values_list("model", "pk"))
    form = {"valid_from_0": f"{later:%Y-%m-%d}", "valid_from_1": "12:00:00", "lines": [ids["long"]], "accept": "1"}
    assert staff.post(_page(proposal), form).status_code == 302
    (planned,) = catalog.upcoming(CatalogModel.objects.get())
    assert (planned.valid_from.date(), planned.actor) == (later.date(), "root@example.com")
    assert staff.post(_page(proposal), {"dismiss": "1", "lines": [ids["speaker"]]}).status_code == 302
    page = staff.get(_page(proposal)).content.decode()
    assert "in force from" in page
    assert "dismissed" in page
    assert 'name="accept"' not in page
    assert staff.post(_page(proposal), {"all": "1"}).status_code == 302
    assert PriceVersion.objects.count() == 2


def test_a_broken_upload_says_where(staff: Client) -> None:
    page = _upload(staff, "new.csv", "model,input\nm,x\n").content.decode()
    assert "line 2: input: &#x27;x&#x27; is not an amount" in page
    assert not PriceProposal.objects.exists()
    assert "ends in .yaml" in _upload(staff, "new.exe", "x").content.decode()


def test_an_upload_that_changes_nothing_says_so(staff: Client) -> None:
    _sell("m", input="1")
    assert _upload(staff, "new.csv", "model,input\nm,1\n").status_code == 302
    assert "Nothing would change" in staff.get(reverse("admin:billing_priceproposal_changelist")).content.decode()


def test_a_stopped_line_wants_the_models_name_on_its_page(staff: Client) -> None:
    _sell("m", input="1")
    _upload(staff, "new.csv", "model,input\nm,1000\n")
    proposal = PriceProposal.objects.get()
    item = proposal.items.get()
    assert "its price moves by more than ten times" in staff.get(_page(proposal)).content.decode()
    chosen = {"accept": "1", "lines": item.pk}
    for form in ({"all": "1"}, chosen, chosen | {f"confirm-{item.pk}": "x"}):
        staff.post(_page(proposal), form)
        assert PriceVersion.objects.count() == 1
    staff.post(_page(proposal), chosen | {f"confirm-{item.pk}": "m"})
    assert PriceVersion.objects.count() == 2


def test_a_past_date_no_lines_and_strangers_change_nothing(staff: Client, alice: User) -> None:
    _upload(staff, "new.csv", "model,input\nm,1\n")
    proposal = PriceProposal.objects.get()
    past = {"valid_from_0": "2020-01-01", "valid_from_1": "00:00:00", "all": "1"}
    assert "lies in the past" in staff.post(_page(proposal), past).content.decode()
    assert "Choose the lines" in staff.post(_page(proposal), {"accept": "1"}).content.decode()
    client = Client()
    client.force_login(alice)
    assert client.post(_page(proposal), {"all": "1"}).status_code == 302
    alice.is_staff = True
    alice.save()
    assert client.post(_page(proposal), {"all": "1"}).status_code == 403
    assert client.get(reverse("admin:billing_priceproposal_import")).status_code == 403
    assert not CatalogModel.objects.exists()
    assert staff.get(reverse("admin:billing_priceproposal_change", args=[10**6])).status_code == 404


def test_the_package_is_compared_in_the_background(staff: Client) -> None:
    def asked() -> int:
        queue = settings.VAR_DIR / "broker" / "queue"
        return sum("portal.tasks.propose_prices" in file.read_text() for file in queue.glob("*"))

    before = asked()
    assert "0 margin rules are in use" in staff.get(reverse("admin:billing_priceproposal_import")).content.decode()
    assert staff.post(reverse("admin:billing_priceproposal_import"), {"compare": "1"}).status_code == 302
    assert asked() == before + 1


def test_the_page_says_where_the_jobs_cannot_be_reached(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*arguments: object, **named: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(app, "send_task", away)
    page = staff.post(reverse("admin:billing_priceproposal_import"), {"compare": "1"}, follow=True)
    assert "The jobs cannot be reached now. Try again soon." in page.content.decode()


def test_a_margin_rule_is_written_in_decimals(staff: Client) -> None:
    form = {"position": 5, "provider": "openai", "model": "gpt-*", "digits": 2, "active": "on", "times": "1.2"}
    add = reverse("admin:billing_marginrule_add")
    assert staff.post(add, form | {"least": "0.05", "rate": "7.2"}).status_code == 302
    rule = MarginRule.objects.get()
    assert (rule.multiplier, rule.minimum, rule.exchange) == (1_200_000, 5 * 10**7, 7_200_000_000)
    change = reverse("admin:billing_marginrule_change", args=[rule.pk])
    page = staff.get(change).content.decode()
    for told in ('value="1.2"', 'value="0.05"', 'value="7.2"'):
        assert told in page
    assert staff.post(change, form).status_code == 302
    rule.refresh_from_db()
    assert (rule.minimum, rule.exchange) == (0, None)
    wrong = {"times": ("0", "x", "101"), "least": ("-1",), "rate": ("0",), "digits": ("10",)}
    for field, text in ((field, text) for field, texts in wrong.items() for text in texts):
        assert _errors(staff.post(add, form | {"model": "x", field: text})), (field, text)
    assert MarginRule.objects.count() == 1


def test_a_group_gets_a_price_of_its_own_and_loses_it_again(staff: Client) -> None:
    row, group = _sell("m", input="1", output="2"), groups.save(name="vip", multiplier=500_000)
    url = reverse("admin:billing_pricegroup_change", args=[group.pk])
    form = _group_form(name="vip", times="0.5", priced=row.pk)
    assert staff.post(url, form | {"price_input": "0.9", "price_output": "1.8"}).status_code == 302
    own = PriceVersion.objects.get(group=group)
    assert (own.rates, own.actor) == ({"input": 9 * 10**8, "output": 18 * 10**8}, "root@example.com")
    assert "input 0.9, output 1.8" in staff.get(url).content.decode()
    assert staff.post(url, form | {"ends": "on"}).status_code == 302
    assert catalog.card_at(row, timezone.now(), group=PriceGroup.objects.get()) is None
    assert "as in the list again" in staff.get(url).content.decode()
    for wrong in ({"price_input": "0.9", "priced": ""}, {}, {"ends": "on", "price_input": "0.9"}, {"price_input": "x"}):
        assert _errors(staff.post(url, form | wrong)), wrong
    assert "price leaps" in _errors(staff.post(url, form | {"price_input": "0.01", "price_output": "2"}))
    assert PriceVersion.objects.filter(group=group).count() == 2


def test_a_price_by_hand_that_leaps_wants_the_models_name(staff: Client) -> None:
    row = _sell("m", input="1")
    url = reverse("admin:billing_catalogmodel_change", args=[row.pk])
    said = _errors(staff.post(url, _model_form(price_input="1000")))
    assert "input 1 → 1000 (+99,900.0 %)" in said
    assert PriceVersion.objects.count() == 1
    assert staff.post(url, _model_form(price_input="1000", confirm="m")).status_code == 302
    assert PriceVersion.objects.count() == 2


def test_pictures_are_priced_by_hand_line_by_line(staff: Client) -> None:
    add = reverse("admin:billing_catalogmodel_add")
    form = _model_form(price_per_image="0.04", pictures="1024x1024/low: 0.011\nhd: 0.08", price_characters="15")
    assert staff.post(add, form).status_code == 302
    card = catalog.current_card(CatalogModel.objects.get())
    assert card is not None
    assert prices.write_card(card)["per_image"] == {"1024x1024/low": "0.011", "hd": "0.08", "default": "0.04"}
    change = reverse("admin:billing_catalogmodel_change", args=[CatalogModel.objects.get().pk])
    page = staff.get(change).content.decode()
    assert "1024x1024/low: 0.011\nhd: 0.08" in page
    for wrong in ("hd", "hd: x", "hd: 1\nhd: 2", "default: 1", "A B: 1"):
        assert _errors(staff.post(add, _model_form("n", price_per_image="0.04", pictures=wrong))), wrong
    assert "`default` is missing" in _errors(staff.post(add, _model_form("n", pictures="hd: 1")))


def test_a_file_is_read_up_to_its_limit() -> None:
    with pytest.raises(InvalidFile):
        proposing.of_file("x.csv", b"#" * (proposing.LARGEST + 1))
