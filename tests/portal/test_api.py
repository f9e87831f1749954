"""The management API: what a team's program can do with a management key, and what nobody else can."""

import datetime as dt
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing import ledger
from billing.models import Account, Plan, PlanOffer, PriceVersion
from keys import services as keys
from keys.models import ApiKey
from portal import services
from portal.models import Team, User

UNIT = 10**9


class Program:
    """Calls the API as a program does."""

    def __init__(self, token: str) -> None:
        self.client = Client(headers={"authorization": f"Bearer {token}"})

    def __call__(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        send = getattr(self.client, method)
        if method == "get":
            return send(f"/api/v1/{path}", query)
        return send(f"/api/v1/{path}", body or {}, content_type="application/json")


def team_of(user: User) -> Team:
    return services.personal_team(user)


def management(team: Team, **terms: Any) -> Program:
    _, token = keys.issue(team_id=team.pk, spec=keys.Spec(name="robot", type="management", **terms))
    return Program(token)


@pytest.fixture
def robot(alice: User) -> Program:
    team = team_of(alice)
    ledger.credit(wallet=ledger.wallet_of(team.pk), amount=10 * UNIT, actor="tests", reason="to spend")
    return management(team)


@pytest.fixture
def stranger(charlie: User) -> Program:
    return management(team_of(charlie))


def test_a_key_is_made_read_changed_paused_resumed_and_revoked(robot: Program) -> None:
    made = robot("post", "keys", {"name": "app", "quota": "5.5", "window": "month", "rpm": 60})
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    found = made.json()
    assert found["secret"].startswith("pisces-")
    assert [(quota["window"], quota["cap"], quota["left"]) for quota in found["quotas"]] == [("month", "5.5", "5.5")]
    path = f"keys/{found['id']}"
    assert "secret" not in robot("get", path).json()
    changed = robot("patch", path, {"name": "renamed"}).json()
    assert (changed["name"], changed["rpm"], changed["quotas"][0]["cap"]) == ("renamed", 60, "5.5")
    assert robot("patch", path, {"quota": None}).json()["quotas"] == []
    assert robot("post", f"{path}/pause").json()["state"] == "paused"
    assert robot("post", f"{path}/resume").json()["state"] == "active"
    assert robot("delete", path).status_code == 204
    assert robot("get", path).json()["state"] == "revoked"
    assert robot("patch", path, {"name": "again"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "quota": 5}, "quota"),
        ({"name": "x", "quota": "-5"}, "quota"),
        ({"name": "x", "quota": "0"}, "quota"),
        ({"name": "x", "quota": "1e5"}, "quota"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "x", "type": "golden"}, "type"),
        ({"name": "x", "models": ["nothing"]}, "models"),
        ({"name": "x", "networks": ["10.0.0.0/99"]}, "networks"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "rpm": -1}, "rpm"),
    ],
)
def test_what_a_key_cannot_be_is_said_of_its_field(robot: Program, body: Any, field: str) -> None:
    before = ApiKey.objects.count()
    refused = robot("post", "keys", body)
    assert refused.status_code == 400
    assert list(refused.json()) == [field]
    assert ApiKey.objects.count() == before


@pytest.mark.parametrize(
    ("quotas", "change", "left"),
    [
        ({"month": "20"}, {"quota": "30"}, {"month": "30"}),
        ({"month": "20"}, {"window": "day"}, {"day": "20"}),
        ({"month": "20"}, {"quota": "5", "window": "day"}, {"day": "5"}),
        ({"month": "20"}, {"quota": None}, {}),
        ({"month": "20"}, {"name": "other"}, {"month": "20"}),
        ({}, {"quota": "5"}, {"total": "5"}),
        ({}, {"quota": "5", "window": "week"}, {"week": "5"}),
        ({"day": "5", "month": "20"}, {"quota": "6", "window": "day"}, {"day": "6", "month": "20"}),
        ({"day": "5", "month": "20"}, {"quota": "50", "window": "week"}, {"day": "5", "week": "50", "month": "20"}),
        ({"day": "5", "month": "20"}, {"quota": None, "window": "day"}, {"month": "20"}),
        ({"day": "5", "month": "20"}, {"name": "other"}, {"day": "5", "month": "20"}),
    ],
)
def test_a_change_of_a_quota_is_of_the_window_that_it_names_or_of_the_only_one(
    robot: Program, quotas: dict[str, str], change: Any, left: dict[str, str]
) -> None:
    made = robot("post", "keys", {"name": "app"}).json()["id"]
    robot("patch", f"limits/keys/{made}", quotas)
    changed = robot("patch", f"keys/{made}", change)
    assert changed.status_code == 200
    assert {quota["window"]: quota["cap"] for quota in changed.json()["quotas"]} == left


@pytest.mark.parametrize(
    ("quotas", "change", "field"),
    [
        ({"day": "5", "month": "20"}, {"quota": "6"}, "window"),
        ({"day": "5", "month": "20"}, {"quota": None}, "window"),
        ({"day": "5", "month": "20"}, {"window": "week"}, "quota"),
        ({}, {"window": "week"}, "window"),
    ],
)
def test_a_quota_of_which_nobody_can_tell_which_it_is_changes_nothing(
    robot: Program, quotas: dict[str, str], change: Any, field: str
) -> None:
    made = robot("post", "keys", {"name": "app"}).json()["id"]
    robot("patch", f"limits/keys/{made}", quotas)
    refused = robot("patch", f"keys/{made}", {"name": "other", **change})
    assert (refused.status_code, list(refused.json())) == (400, [field])
    kept = robot("get", f"keys/{made}").json()
    assert (kept["name"], {quota["window"]: quota["cap"] for quota in kept["quotas"]}) == ("app", quotas)


@pytest.mark.parametrize("body", ['"quota"', '["quota"]', "[]", "5", "null", "true"])
def test_a_change_that_is_no_object_is_refused_and_changes_nothing(robot: Program, body: str) -> None:
    path = f"keys/{robot('post', 'keys', {'name': 'app', 'quota': '20', 'window': 'month'}).json()['id']}"
    before = robot("get", path).json()
    refused = robot.client.patch(f"/api/v1/{path}", body, content_type="application/json")
    assert (refused.status_code, robot("get", path).json()) == (400, before)


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"name": ' + '{"a":' * 100_000])
def test_what_is_nested_too_deeply_to_be_read_is_refused(robot: Program, deep: str) -> None:
    for send, path in ((robot.client.post, "keys"), (robot.client.patch, "limits"), (robot.client.post, "redeem")):
        refused = send(f"/api/v1/{path}", deep, content_type="application/json")
        assert (refused.status_code, refused.json()) == (400, {"detail": "The JSON is nested too deeply."})


def test_of_a_key_that_has_expired_and_whose_models_have_gone_only_what_is_sent_is_judged(
    robot: Program, price: PriceVersion
) -> None:
    path = f"keys/{robot('post', 'keys', {'name': 'app', 'models': ['gpt-4o-mini']}).json()['id']}"
    ApiKey.objects.filter(name="app").update(expires_at=timezone.now() - dt.timedelta(days=1), models=["gone"])
    changed = robot("patch", path, {"name": "renamed"})
    assert (changed.status_code, changed.json()["name"], changed.json()["models"]) == (200, "renamed", ["gone"])
    for wrong in ({"expires_at": "2001-01-01T00:00:00Z"}, {"models": ["gone", "unknown"]}):
        assert list(robot("patch", path, wrong).json()) == list(wrong)


def test_nothing_of_another_team_is_there(robot: Program, stranger: Program) -> None:
    made = robot("post", "keys", {"name": "mine"}).json()["id"]
    for method, path in (
        ("get", f"keys/{made}"), ("patch", f"keys/{made}"), ("delete", f"keys/{made}"),
        ("post", f"keys/{made}/pause"), ("post", f"keys/{made}/resume"), ("get", f"calls/{uuid.uuid4()}"),
    ):  # fmt: skip
        assert stranger(method, path).status_code == 404, path
    assert [row["name"] for row in stranger("get", "keys").json()["results"]] == ["robot"]
    assert stranger("get", "wallet").json()["balance"] == "0"
    assert stranger("get", "transfers").json()["results"] == []


def test_the_wallet_and_its_ledger_are_decimal_strings(robot: Program) -> None:
    assert robot("get", "wallet").json() == {
        "currency": "USD", "balance": "20", "held": "0", "available": "20", "credit_limit": "0", "frozen": False,
    }  # fmt: skip
    row, _opening = robot("get", "transfers").json()["results"]
    assert (row["kind"], row["amount"], row["account"]) == ("credit", "10", "wallet")


def test_lists_go_by_cursors_and_each_row_is_there_once(robot: Program) -> None:
    for number in range(7):
        robot("post", "keys", {"name": f"key {number}"})
    names, page = [], robot("get", "keys", limit="3").json()
    while True:
        names += [row["name"] for row in page["results"]]
        if page["next"] is None:
            break
        page = robot.client.get(page["next"]).json()
    assert names == [f"key {number}" for number in reversed(range(7))] + ["robot"]


def test_a_plan_is_bought_once_for_one_order(robot: Program, alice: User) -> None:
    offer = PlanOffer.objects.create(name="Starter", kind="credit", price=8 * UNIT, value=10 * UNIT, days=30)
    order = {"offer": offer.pk, "order": str(uuid.uuid4())}
    first, again = robot("post", "plans", order), robot("post", "plans", order)
    assert (first.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert robot("get", "wallet").json()["balance"] == "12"
    assert [row["left"] for row in robot("get", "plans").json()["results"]] == ["10"]
    assert [(row["kind"], row["account"], row["amount"]) for row in robot("get", "transfers").json()["results"]] == [
        ("grant", "plan", "10"), ("purchase", "wallet", "-8"), *[("credit", "wallet", "10")] * 2,
    ]  # fmt: skip
    robot("post", "plans", {"offer": offer.pk, "order": str(uuid.uuid4())})
    poor = robot("post", "plans", {"offer": offer.pk, "order": str(uuid.uuid4())})
    assert (poor.status_code, Plan.objects.count()) == (402, 2)


def test_a_plan_that_costs_more_than_was_agreed_to_is_not_bought(robot: Program) -> None:
    offer = PlanOffer.objects.create(name="Starter", kind="credit", price=8 * UNIT, value=10 * UNIT, days=30)
    order = {"offer": offer.pk, "order": str(uuid.uuid4())}
    dearer = robot("post", "plans", {**order, "price": "7.99"})
    assert (dearer.status_code, Plan.objects.count()) == (409, 0)
    assert "price" in dearer.json()["detail"]
    assert robot("post", "plans", {**order, "price": "8"}).status_code == 201


def test_an_offer_that_is_not_for_sale_is_not_found(robot: Program) -> None:
    offer = PlanOffer.objects.create(name="Old", kind="credit", price=0, value=UNIT, days=30, active=False)
    assert robot("get", "plan-offers").json() == []
    assert robot("post", "plans", {"offer": offer.pk, "order": str(uuid.uuid4())}).status_code == 404


@pytest.mark.parametrize("kind", ["standard", "test"])
def test_only_a_management_key_calls_it(alice: User, kind: str) -> None:
    _, token = keys.issue(team_id=team_of(alice).pk, spec=keys.Spec(name="x", type=kind))
    refused = Program(token)("get", "wallet")
    assert (refused.status_code, refused.json()) == (401, {"detail": "Only a management key calls this API."})


@pytest.mark.parametrize("token", ["", "pisces-nonsense", "x" * 5000, "pisces-" + "0" * 40, "päss"])
def test_what_is_no_key_is_refused(db: None, token: str) -> None:
    refused = Client(headers={"authorization": b"Bearer ".decode() + token}).get("/api/v1/wallet")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_that_is_paused_revoked_expired_or_elsewhere_is_refused(alice: User) -> None:
    team = team_of(alice)
    soon = timezone.now() + dt.timedelta(days=1)
    for change, said in (
        ({"state": "paused"}, "paused"),
        ({"state": "revoked", "revoked_at": soon}, "revoked"),
        ({"expires_at": timezone.now()}, "expired"),
        ({"networks": ["203.0.113.0/24"]}, "address"),
    ):
        program = management(team)
        assert program("get", "wallet").status_code == 200
        newest = ApiKey.objects.latest("pk")
        ApiKey.objects.filter(pk=newest.pk).update(**change)
        refused = program("get", "wallet")
        assert refused.status_code == 401
        assert said in refused.json()["detail"]


def test_a_member_calls_it_from_a_session_and_writing_wants_the_forms_token(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.get("/api/v1/wallet").status_code == 200
    refused = client.post("/api/v1/keys", {"name": "x"}, content_type="application/json")
    assert (refused.status_code, "CSRF" in refused.json()["detail"]) == (403, True)


def test_a_frozen_wallet_says_so(robot: Program, alice: User) -> None:
    ledger.freeze(wallet=Account.objects.get(team=team_of(alice), kind="wallet"), reason="tests")
    assert robot("get", "wallet").json()["frozen"] is True


def test_its_document_describes_every_route_and_asks_for_a_key(client: Client, db: None) -> None:
    document = client.get("/api/v1/schema", headers={"accept": "application/json"}).json()
    assert {"/api/v1/keys", "/api/v1/wallet", "/api/v1/transfers", "/api/v1/plans", "/api/v1/calls/{id}"} <= set(
        document["paths"]
    )
    assert document["components"]["securitySchemes"]["managementKey"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            ways = {name for way in operation["security"] for name in way}
            personal = path.startswith(("/api/v1/notices", "/api/v1/webhooks", "/api/v1/deliveries"))
            assert ways == {"cookieAuth"} | ({"managementKey"} if not personal else set()), (path, method)


def test_its_document_has_one_version_whatever_is_asked_for(client: Client, db: None) -> None:
    plain = client.get("/api/v1/schema", headers={"accept": "application/json"})
    for version in ("2", "\r\n", "\0"):
        asked = client.get("/api/v1/schema", {"version": version}, headers={"accept": "application/json"})
        assert (asked.status_code, asked.content) == (200, plain.content)
        assert asked["Content-Disposition"] == plain["Content-Disposition"]
