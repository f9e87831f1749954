"""The administration: it goes through the services, shows no secret, and deletes nothing that books depend on."""

import datetime as dt
from html.parser import HTMLParser
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import trans_real

from billing import audit, catalog, connections, groups, ids, ledger, money, prices, revisions
from billing.models import Account, CatalogModel, Hold, PriceGroup, PriceVersion, Transfer
from billing.operations import OpenHold
from keys import services as keys
from keys.models import ApiKey
from portal import translations
from portal.models import Team, User
from relay import services, snapshot
from relay.models import CallLog, Channel, Credential
from relay.services import ChannelSpec

SECRET = "sk-upstream-secret-0123456789abcd"


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.com", "x"))
    return client


def _channel(**fields: Any) -> Channel:
    values = {"name": "main", "base_url": "https://8.8.8.8/v1", "models": {"a": "b"}, **fields}
    return services.save_channel(None, ChannelSpec(**values), secrets=[SECRET])


def _inline(prefix: str, rows: list[dict[str, Any]], initial: int = 0) -> dict[str, Any]:
    form = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": initial}
    for number, row in enumerate(rows):
        form |= {f"{prefix}-{number}-{name}": value for name, value in row.items()}
    return form


def _channel_form(**fields: Any) -> dict[str, Any]:
    rows = fields.pop("credentials", [])
    form = {
        "name": "main", "preset": "custom", "protocol": "openai", "base_url": "https://8.8.8.8/v1", "served": "a = b",
        "priority": 0, "weight": 1, "on_hangup": "cancel", "timeouts": "{}", "enabled": "on", "new_credentials": "",
    }  # fmt: skip
    return form | _inline("credentials", rows, len(rows)) | fields


def _model_form(name: str = "m", **fields: Any) -> dict[str, Any]:
    return (
        {"name": name, "kind": "chat", "active": "on", "valid_from_0": "", "valid_from_1": ""}
        | _inline("prices", [])
        | fields
    )


def _group_form(**fields: Any) -> dict[str, Any]:
    return {"priced": "", "valid_from_0": "", "valid_from_1": ""} | _inline("prices", []) | fields


def _errors(response: Any) -> str:
    assert response.status_code == 200, response
    return str(response.context["errors"])


# ---- everywhere -----------------------------------------------------------------------------------------------------


def test_every_page_of_the_administration_opens(staff: Client, team: Team) -> None:
    _channel()
    catalog.set_price(catalog.save_model(name="m"), prices.parse_card({"input": "1"}), actor="tests")
    keys.issue(team_id=team.pk, spec=keys.Spec(name="one", quota=money.parse("1")))
    assert staff.get(reverse("admin:index")).status_code == 200
    for model in admin.site._registry:
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        assert staff.get(reverse(f"{base}_changelist")).status_code == 200, model
        row = model._default_manager.first()
        if row is not None:
            assert staff.get(reverse(f"{base}_change", args=[row.pk])).status_code == 200, model


class Described(HTMLParser):
    """The ids of a page, and those by which its fields say that they are described."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.by: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name: value or "" for name, value in attrs}
        self.ids.add(names.get("id", ""))
        self.by.update(names.get("aria-describedby", "").split())


def test_what_describes_a_field_is_on_its_page(staff: Client, client: Client) -> None:
    channel = _channel()
    model = catalog.save_model(name="m")
    shown = [staff.get(reverse("admin:relay_channel_change", args=[channel.pk])), client.get(reverse("account_login"))]
    shown.append(staff.get(reverse("admin:billing_catalogmodel_change", args=[model.pk])))
    shown += [staff.get(reverse(f"admin:{name}_add")) for name in ("portal_user", "relay_channel", "billing_planoffer")]
    for answer in shown:
        page = Described()
        page.feed(answer.content.decode())
        assert page.by, answer.request["PATH_INFO"]
        assert page.by - page.ids == set(), answer.request["PATH_INFO"]


def test_the_theme_speaks_chinese_too(staff: Client) -> None:
    translations.compile_all(settings.LOCALE_PATHS)
    vars(trans_real)["_translations"].clear()
    staff.cookies["django_language"] = "zh-hans"
    page = staff.get(reverse("admin:billing_payment_changelist")).content.decode()
    english = ("No results found", "Type to search", "This page yielded", "Search apps and models", "Reset filters")
    assert [text for text in english if text in page] == []
    assert "没有结果" in page
    found = staff.get(reverse("admin:search"), {"s": "payment", "extended": "1"}).content.decode()
    assert "用时" in found


def test_only_what_is_listed_here_is_administered() -> None:
    names = {model._meta.label for model in admin.site._registry}
    assert names == {
        "portal.User", "portal.Team", "relay.Channel", "relay.CallLog", "keys.ApiKey", "billing.CatalogModel",
        "billing.Account", "billing.Transfer", "billing.Hold", "billing.Budget", "billing.BudgetChange",
        "billing.PriceGroup", "relay.Review", "billing.AuditReport", "billing.AuditFinding",
        "billing.PlanOffer", "billing.Plan",
        "billing.PriceProposal", "billing.MarginRule",
        "billing.RedeemBatch", "billing.RedeemCode", "billing.Adjustment", "relay.StatementSource",
        "relay.Statement", "relay.Reconciliation",
        "billing.Invoice", "billing.ClosedMonth", "billing.InvoicedWallet",
        "billing.Payment", "billing.PaymentEvent", "billing.ExchangeRate",
    }  # fmt: skip


def test_nothing_can_be_deleted(staff: Client, rf: Any) -> None:
    request = rf.get("/")
    request.user = User.objects.get(email="root@example.com")
    for model, options in admin.site._registry.items():
        assert not options.has_delete_permission(request), model
        assert "delete_selected" not in options.get_actions(request), model


def test_the_books_cannot_be_written(staff: Client, team: Team) -> None:
    transfer = Transfer.objects.get()
    url = reverse("admin:billing_transfer_change", args=[transfer.pk])
    assert staff.post(url, {"amount": 1}).status_code == 403
    for name in ("transfer", "hold", "budget", "account"):
        assert staff.get(reverse(f"admin:billing_{name}_add")).status_code == 403
    assert staff.get(reverse("admin:relay_calllog_add")).status_code == 403
    assert staff.get(reverse("admin:keys_apikey_add")).status_code == 403


def test_members_are_not_let_in_and_strangers_are_sent_to_sign_in(alice: User) -> None:
    client = Client()
    login = client.get(reverse("admin:login") + "?next=/admin/")
    assert login.status_code == 302
    assert login["Location"].startswith(reverse("account_login"))
    client.force_login(alice)
    assert client.get(reverse("admin:login")).status_code == 403
    assert client.get(reverse("admin:index")).status_code == 302


# ---- models and prices ----------------------------------------------------------------------------------------------


def test_a_changed_price_is_a_new_version_and_the_old_one_stays(staff: Client) -> None:
    staff.post(reverse("admin:billing_catalogmodel_add"), _model_form(price_input="0.15", price_output="0.60"))
    model = CatalogModel.objects.get()
    before = revisions.current()[revisions.CATALOG]
    url = reverse("admin:billing_catalogmodel_change", args=[model.pk])
    assert staff.post(url, _model_form(price_input="0.20", price_output="0.6")).status_code == 302
    rates = list(PriceVersion.objects.order_by("valid_from").values_list("rates", "actor"))
    assert rates == [
        ({"input": 150_000_000, "output": 600_000_000}, "root@example.com"),
        ({"input": 200_000_000, "output": 600_000_000}, "root@example.com"),
    ]
    assert revisions.current()[revisions.CATALOG] > before
    assert "input 0.15, output 0.6" in staff.get(url).content.decode()


def test_saving_a_model_with_the_same_price_makes_no_version(staff: Client) -> None:
    staff.post(reverse("admin:billing_catalogmodel_add"), _model_form(price_input="0.15"))
    url = reverse("admin:billing_catalogmodel_change", args=[CatalogModel.objects.get().pk])
    staff.post(url, _model_form(price_input="0.150", description="better"))
    assert PriceVersion.objects.count() == 1
    assert CatalogModel.objects.get().description == "better"


def test_a_price_may_be_set_for_a_moment_to_come(staff: Client) -> None:
    later = timezone.now() + dt.timedelta(days=3)
    form = _model_form(price_input="1", valid_from_0=f"{later:%Y-%m-%d}", valid_from_1="12:00:00")
    assert staff.post(reverse("admin:billing_catalogmodel_add"), form).status_code == 302
    assert PriceVersion.objects.get().valid_from.date() == later.date()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"price_input": "1e3"}, "not an amount"),
        ({"price_input": "-1"}, "negative"),
        ({"price_input": "0.0000000001"}, "nine decimals"),
        ({"price_input": "1", "valid_from_0": "2020-01-01", "valid_from_1": "00:00:00"}, "past"),
        ({"price_input": ""}, "cannot be taken away"),
    ],
)
def test_an_impossible_price_is_refused_with_its_reason(staff: Client, fields: dict[str, str], said: str) -> None:
    catalog.set_price(model := catalog.save_model(name="m"), prices.parse_card({"input": "1"}), actor="tests")
    response = staff.post(reverse("admin:billing_catalogmodel_change", args=[model.pk]), _model_form(**fields))
    assert said in _errors(response)
    assert PriceVersion.objects.count() == 1


# ---- channels -------------------------------------------------------------------------------------------------------


def test_a_channel_is_made_with_credentials_that_no_page_shows(staff: Client) -> None:
    form = _channel_form(new_credentials=f"{SECRET}\nsk-second-secret-9876543210wxyz", served="a = b\nc")
    assert staff.post(reverse("admin:relay_channel_add"), form).status_code == 302
    channel = Channel.objects.get()
    assert channel.models == {"a": "b", "c": "c"}
    assert not channel.private
    assert [services.opened(c) for c in channel.credentials.order_by("id")] == [
        SECRET, "sk-second-secret-9876543210wxyz",
    ]  # fmt: skip
    for page in ("changelist", "change", "history"):
        args = [] if page == "changelist" else [channel.pk]
        body = staff.get(reverse(f"admin:relay_channel_{page}", args=args)).content.decode()
        assert SECRET not in body
        assert "9876543210" not in body
    assert "…abcd" in staff.get(reverse("admin:relay_channel_change", args=[channel.pk])).content.decode()


def test_a_changed_address_wants_its_credential_again_and_drops_the_old(staff: Client) -> None:
    channel = _channel()
    url = reverse("admin:relay_channel_change", args=[channel.pk])
    row = {"id": channel.credentials.get().pk, "channel": channel.pk, "weight": 1, "enabled": "on"}
    moved = _channel_form(base_url="https://9.9.9.9/v1", credentials=[row])
    assert "enter its credentials again" in _errors(staff.post(url, moved))
    assert Channel.objects.get().base_url == "https://8.8.8.8/v1"
    assert staff.post(url, moved | {"new_credentials": "sk-for-the-new-place-1"}).status_code == 302
    assert Channel.objects.get().base_url == "https://9.9.9.9/v1"
    assert [services.opened(c) for c in Credential.objects.all()] == ["sk-for-the-new-place-1"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"base_url": "http://127.0.0.1:9000/v1"}, "private address"),
        ({"base_url": "http://169.254.169.254/"}, "private address"),
        ({"base_url": "http://[::1]/v1"}, "private address"),
        ({"base_url": "http://localhost/v1"}, "private address"),
        ({"base_url": "internal:demo"}, "private address"),
        ({"base_url": "ftp://8.8.8.8/"}, "http"),
        ({"base_url": "https://user:pw@8.8.8.8/v1"}, "no user"),
        ({"served": "a = b\na"}, "twice"),
        ({"timeouts": '{"conect": 5}'}, "Timeouts are"),
        ({"timeouts": '{"connect": "5"}'}, "float"),
        ({"timeouts": "[1]"}, "object"),
        ({"parameters": '{"temperature": NaN}'}, "valid JSON"),
        ({"parameters": '{"generationConfig": null}'}, "cannot be overridden"),
        ({"parameters": '{"generation_config": {"candidate_count": 8}}'}, "cannot be overridden"),
        ({"parameters": '{"x": -Infinity}'}, "valid JSON"),
        ({"breaker": '{"open": 1e999}'}, "valid JSON"),
        ({"parameters": '{"x": %s}' % ("9" * 5000)}, "valid JSON"),
        ({"parameters": '{"x": "\\ud800"}'}, "valid JSON"),
        ({"capabilities": '{"a":' * 5000 + "1" + "}" * 5000}, "valid JSON"),
        ({"parameters": '{"a":' * 40 + "1" + "}" * 40}, "at most 32 levels"),
        ({"parameters": '{"x": "\\u0000"}'}, "no NUL"),
        ({"capabilities": '{"a": {"efforts": ["\\u0000"]}}'}, "no NUL"),
        ({"parameters": '{"x": 99999999999999999999}'}, "at most 64 bits"),
        ({"proxy": "http://[::1"}, "not a URL"),
        ({"new_credentials": "has a space"}, "visible ASCII"),
        ({"weight": "-1"}, "greater than or equal"),
    ],
)
def test_an_impossible_channel_is_refused_with_its_reason(staff: Client, fields: dict[str, str], said: str) -> None:
    assert said in _errors(staff.post(reverse("admin:relay_channel_add"), _channel_form(**fields)))
    assert not Channel.objects.exists()


def test_a_private_channel_from_the_file_keeps_its_right_while_its_address_stays(staff: Client) -> None:
    channel = _channel(base_url="http://127.0.0.1:9000/v1", private=True)
    url = reverse("admin:relay_channel_change", args=[channel.pk])
    row = {"id": channel.credentials.get().pk, "channel": channel.pk, "weight": 1, "enabled": "on"}
    kept = _channel_form(base_url="http://127.0.0.1:9000/v1", weight=3, credentials=[row])
    assert staff.post(url, kept).status_code == 302
    channel.refresh_from_db()
    assert (channel.private, channel.weight, channel.credentials.count()) == (True, 3, 1)


def test_a_credential_is_switched_off_and_removed(staff: Client) -> None:
    channel = _channel()
    services.add_credentials(channel, ["sk-another-secret-0000"])
    first, second = channel.credentials.order_by("id")
    rows: list[dict[str, Any]] = [
        {"id": first.pk, "channel": channel.pk, "weight": 1}, {"id": second.pk, "channel": channel.pk, "DELETE": "on"},
    ]  # fmt: skip
    before = revisions.current()[revisions.CHANNELS]
    staff.post(reverse("admin:relay_channel_change", args=[channel.pk]), _channel_form(credentials=rows))
    left = channel.credentials.get()
    assert (left.pk, left.enabled) == (first.pk, False)
    assert revisions.current()[revisions.CHANNELS] > before


# ---- wallets, keys, users -------------------------------------------------------------------------------------------


def _wallet_form(staff: Client, wallet: Account, **fields: str) -> tuple[str, dict[str, str]]:
    url = reverse("admin:billing_account_change", args=[wallet.pk])
    page = staff.get(url)
    form = page.context["adminform"].form
    assert b'name="initial-stopped"' in page.content
    shown = {"stopped": wallet.frozen, "initial-stopped": form["stopped"].value()}
    return url, {"reason": ""} | shown | fields


def test_a_wallet_is_frozen_with_a_reason_and_freed(staff: Client, team: Team) -> None:
    wallet = ledger.wallet_of(team.pk)
    url, form = _wallet_form(staff, wallet, stopped="card stolen")
    staff.post(url, form)
    assert ledger.wallet_of(team.pk).frozen == "card stolen"
    url, form = _wallet_form(staff, wallet, stopped="")
    assert "needs a reason" in _errors(staff.post(url, form))
    assert ledger.wallet_of(team.pk).frozen == "card stolen"
    staff.post(url, form | {"reason": "a new card"})
    assert ledger.wallet_of(team.pk).frozen == ""
    history = staff.get(reverse("admin:billing_account_history", args=[wallet.pk])).content.decode()
    assert "freeze lifted: a new card" in history


def test_saving_a_wallet_lifts_no_freeze_that_came_since_the_page_was_read(staff: Client, team: Team) -> None:
    wallet, group = ledger.wallet_of(team.pk), groups.save(name="vip", multiplier=1)
    url, form = _wallet_form(staff, wallet, group=str(group.pk))
    ledger.freeze(wallet=wallet, reason="audit report 7")
    assert staff.post(url, form).status_code == 302
    assert ledger.wallet_of(team.pk).frozen == "audit report 7"
    assert ledger.wallet_of(team.pk).group == group


def test_a_platform_account_is_only_looked_at(staff: Client, team: Team) -> None:
    url = reverse("admin:billing_account_change", args=[ledger.platform_account("payments").pk])
    assert b"billing/adjustment/of/" not in staff.get(url).content
    assert staff.post(url, {}).status_code == 403


def test_keys_are_paused_resumed_and_revoked_and_never_shown(staff: Client, team: Team) -> None:
    key, secret = keys.issue(team_id=team.pk, spec=keys.Spec(name="one"))
    url = reverse("admin:keys_apikey_changelist")
    for action, state in (("pause", "paused"), ("resume", "active"), ("revoke", "revoked")):
        staff.post(url, {"action": action, "_selected_action": [key.pk]})
        assert ApiKey.objects.get().state == state
    body = staff.get(url).content + staff.get(reverse("admin:keys_apikey_change", args=[key.pk])).content
    assert secret.encode() not in body
    assert key.digest.encode() not in body
    assert key.masked.encode() in body


def test_a_new_user_has_a_personal_team_and_a_wallet(staff: Client) -> None:
    form = {"email": "New@Example.com", "usable_password": "true", "password1": "fie4phahNg", "password2": "fie4phahNg"}
    assert staff.post(reverse("admin:portal_user_add"), form).status_code == 302
    user = User.objects.get(email="new@example.com")
    assert Account.objects.filter(kind="wallet", team=user.personal_team).exists()


def test_staff_who_are_no_superusers_cannot_change_users(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    client = Client()
    client.force_login(alice)
    assert client.get(reverse("admin:portal_user_add")).status_code == 403


# ---- calls in review ------------------------------------------------------------------------------------------------


def _in_review(team: Team, amount: str = "0.5") -> Hold:
    """A call whose process died after it was sent."""
    version = catalog.set_price(catalog.save_model(name="m"), prices.parse_card({"input": "1"}), actor="tests")
    version = version or PriceVersion.objects.get(model__name="m")
    now, facts = timezone.now(), {"team": team.pk, "model": "m", "request_id": "mine", "channels": ["main"]}
    held = money.parse(amount)
    opening = OpenHold(ids.uuid7(), ledger.wallet_of(team.pk).pk, held, held, version.pk, (), facts, "gone", 45.0, now)
    with transaction.atomic():
        connections.run_in_transaction([opening], revenue=ledger.revenue_account())
    Hold.objects.filter(pk=opening.id).update(state="review", note="sent to main")
    return Hold.objects.get(pk=opening.id)


def _decide(staff: Client, hold: Hold, **fields: str) -> Any:
    return staff.post(reverse("admin:relay_review_change", args=[hold.pk]), {"charge": "0", "reason": "", **fields})


def test_a_call_in_review_is_charged_what_an_administrator_says(staff: Client, team: Team) -> None:
    hold, before = _in_review(team), ledger.wallet_of(team.pk).balance
    page = staff.get(reverse("admin:relay_review_changelist"))
    assert "sent to main" in page.content.decode()
    assert _decide(staff, hold, charge="0.25", reason="it is on the bill").status_code == 302
    call = CallLog.objects.get(pk=hold.pk)
    assert (call.state, call.cost, call.channel, call.request_id) == ("lost", money.parse("0.25"), "", "mine")
    wallet = ledger.wallet_of(team.pk)
    assert (wallet.balance, wallet.held) == (before - money.parse("0.25"), 0)
    hold.refresh_from_db()
    assert (hold.state, hold.note) == ("settled", "sent to main; root@example.com: it is on the bill")
    assert audit.run() == []
    assert _decide(staff, hold, charge="0.1", reason="again").status_code == 302, "there is no such review any more"
    assert CallLog.objects.get(pk=hold.pk).cost == money.parse("0.25")


def test_calls_in_review_are_given_back_many_at_once(staff: Client, team: Team) -> None:
    rows, before = [_in_review(team, "0.1") for _ in range(3)], ledger.wallet_of(team.pk).balance
    chosen = {"action": "give_back", "_selected_action": [str(row.pk) for row in rows[:2]]}
    assert staff.post(reverse("admin:relay_review_changelist"), chosen).status_code == 302
    assert sorted(Hold.objects.values_list("state", flat=True)) == ["review", "voided", "voided"]
    wallet = ledger.wallet_of(team.pk)
    assert (wallet.balance, wallet.held) == (before, money.parse("0.1"))
    assert audit.run() == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"charge": "0.6", "reason": "x"}, "more than what is held"),
        ({"charge": "-1", "reason": "x"}, "negative"),
        ({"charge": "much", "reason": "x"}, "amount"),
        ({"charge": "0.1", "reason": "  "}, "required"),
    ],
)
def test_an_impossible_decision_is_refused(staff: Client, team: Team, fields: dict[str, str], said: str) -> None:
    hold = _in_review(team)
    assert said in _errors(_decide(staff, hold, **fields))
    hold.refresh_from_db()
    assert hold.state == "review"


# ---- tiers, groups, costs -------------------------------------------------------------------------------------------


def test_tiers_are_typed_a_line_each_and_survive_a_change_of_another_price(staff: Client) -> None:
    typed = "200000: input 2.50, output 15\n\n 1000000 : input 5 \n"
    staff.post(
        reverse("admin:billing_catalogmodel_add"), _model_form(price_input="1.25", price_output="10", tiers=typed)
    )
    url = reverse("admin:billing_catalogmodel_change", args=[CatalogModel.objects.get().pk])
    shown = staff.get(url).context["adminform"].form.initial["tiers"]
    assert shown == "200000: input 2.5, output 15\n1000000: input 5"
    assert staff.post(url, _model_form(price_input="1.3", price_output="10", tiers=shown)).status_code == 302
    cards = [prices.describe(catalog.card_of(row)) for row in PriceVersion.objects.order_by("pk")]
    tiers = "; above 200000: input 2.5, output 15; above 1000000: input 5"
    assert cards == [f"input 1.25, output 10{tiers}", f"input 1.3, output 10{tiers}"]


def test_a_price_to_come_is_shown_in_the_list_with_its_date(staff: Client) -> None:
    model = catalog.save_model(name="m")
    catalog.set_price(model, prices.parse_card({"input": "1"}), actor="t")
    later = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
    catalog.set_price(model, prices.parse_card({"input": "2"}), actor="t", valid_from=later)
    page = staff.get(reverse("admin:billing_catalogmodel_changelist")).content.decode()
    assert "input 1; from 2099-01-01 00:00 UTC: input 2" in page


def test_a_group_is_made_changed_and_given_to_a_wallet(staff: Client, team: Team) -> None:
    before = revisions.current().get(revisions.PRICE_GROUPS, 0)
    staff.post(reverse("admin:billing_pricegroup_add"), _group_form(name="vip", times="0.8"))
    group = PriceGroup.objects.get()
    assert (group.name, group.multiplier) == ("vip", 800_000)
    url = reverse("admin:billing_pricegroup_change", args=[group.pk])
    staff.post(url, _group_form(name="other", times="0.75"))
    group.refresh_from_db()
    assert (group.name, group.multiplier) == ("vip", 750_000)
    wallet = ledger.wallet_of(team.pk)
    form = {"group": group.pk, "reason": "", "stopped": ""}
    page = reverse("admin:billing_account_change", args=[wallet.pk])
    assert staff.post(page, form).status_code == 302
    assert groups.multiplier_of(ledger.wallet_of(team.pk)) == 750_000
    assert LogEntry.objects.latest("pk").change_message == "price group: vip"
    staff.post(page, {**form, "group": ""})
    assert groups.multiplier_of(ledger.wallet_of(team.pk)) == prices.ONE
    assert revisions.current()[revisions.PRICE_GROUPS] == before + 4


def test_a_group_without_a_name_or_with_that_of_another_is_refused(staff: Client) -> None:
    groups.save(name="vip", multiplier=1)
    for name in ("", "vip", "x" * 101, "a\u200bb"):
        assert _errors(staff.post(reverse("admin:billing_pricegroup_add"), _group_form(name=name, times="1")))
    assert PriceGroup.objects.count() == 1


def test_costs_of_a_channel_are_kept_and_checked(staff: Client) -> None:
    channel = _channel()
    url = reverse("admin:relay_channel_change", args=[channel.pk])
    assert staff.post(url, _channel_form(costs='{"a": {"input": "0.10"}}')).status_code == 302
    channel.refresh_from_db()
    assert channel.costs == {"a": {"input": "0.10"}}
    for costs, said in (
        ('{"z": {"input": "1"}}', "does not serve"),
        ('{"a": {"imput": "1"}}', "unknown price"),
        ('{"a": 5}', "as prices by name"),
        ("[1]", "Expected `object`"),
        ("{", "valid JSON"),
    ):
        assert said in _errors(staff.post(url, _channel_form(costs=costs))), costs
    channel.refresh_from_db()
    assert channel.costs == {"a": {"input": "0.10"}}


def test_a_channels_rate_limits_are_kept_and_checked(staff: Client) -> None:
    url = reverse("admin:relay_channel_add")
    assert "tpm" in _errors(staff.post(url, _channel_form(tpm="-5")))
    assert "rpm" in _errors(staff.post(url, _channel_form(rpm="0")))
    assert staff.post(url, _channel_form(rpm="500", tpm="200000")).status_code == 302
    channel = Channel.objects.get()
    assert (channel.rpm, channel.tpm, channel.parallel) == (500, 200_000, None)
    scope = snapshot.load().routes["a"][0].scope
    assert scope is not None
    assert [(limit.name, limit.most) for limit in scope.limits] == [
        (f"pisces:limits:channel:{channel.pk}:requests", 500),
        (f"pisces:limits:channel:{channel.pk}:tokens", 200_000),
    ]
    url = reverse("admin:relay_channel_change", args=[channel.pk])
    row = {"id": Credential.objects.create(channel=channel, secret=b"x").pk, "weight": 1, "enabled": "on"}
    assert staff.post(url, _channel_form(parallel="4", credentials=[row])).status_code == 302
    channel.refresh_from_db()
    assert (channel.rpm, channel.tpm, channel.parallel) == (None, None, 4)
    with pytest.raises(IntegrityError), transaction.atomic():
        Channel.objects.update(rpm=0)
