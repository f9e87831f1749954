"""What belongs to a person in the management API: a session calls it, with the form's token, and no key does."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from portal.api.urls import urlpatterns
from portal.models import Delivery, Notice, NoticeSettings, User, Webhook
from portal.notices import telling
from tests.invoices.receivers import Receiver, receiver
from tests.portal.test_api import Program, management, team_of

PERSONAL = ("api_notice", "api_webhook", "api_redeliver")


class Member:
    """Calls the API from a session."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __call__(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        if method == "get":
            return self.client.get(f"/api/v1/{path}", query)
        return getattr(self.client, method)(f"/api/v1/{path}", body or {}, content_type="application/json")


@pytest.fixture
def member(as_alice: Client) -> Member:
    return Member(as_alice)


@pytest.fixture
def stranger(as_charlie: Client) -> Member:
    return Member(as_charlie)


@pytest.fixture
def hook(settings: Any) -> Iterator[Receiver]:
    with receiver() as server:
        settings.WEBHOOKS_TO = [server.server]
        yield server


def test_settings_are_read_and_changed_one_by_one(member: Member, alice: User) -> None:
    before = member("get", "notices/settings").json()
    assert "drift" not in before["kinds"]
    changed = member("patch", "notices/settings", {"threshold": "2.5", "kinds": ["quota"]}).json()
    assert changed == {**before, "threshold": "2.5", "kinds": ["quota"]} == member("get", "notices/settings").json()
    assert member("patch", "notices/settings", {"threshold": None}).json()["kinds"] == ["quota"]
    row = NoticeSettings.objects.get(user=alice)
    assert (row.threshold, "low_balance" in row.muted, "drift" in row.muted) == (None, True, False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"threshold": "-1"}, "threshold"), ({"threshold": 5}, "threshold"), ({"kinds": ["gossip"]}, "kinds"),
        ({"kinds": ["drift"]}, "kinds"), ({"language": "tlh"}, "language"), ({"by_email": "perhaps"}, "by_email"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_said_of_their_field(member: Member, body: Any, field: str) -> None:
    refused = member("patch", "notices/settings", body)
    assert (refused.status_code, list(refused.json())) == (400, [field])
    assert not NoticeSettings.objects.exists()


def test_a_webhook_is_added_tested_enabled_and_removed(member: Member, hook: Receiver) -> None:
    made = member("post", "webhooks", {"url": hook.url})
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    found = made.json()
    secret, path = found.pop("secret"), f"webhooks/{found['id']}"
    assert secret.startswith("whsec_")
    assert [member("get", path).json(), *member("get", "webhooks").json()["results"]] == [found, found]
    sent = member("post", f"{path}/test").json()
    assert (sent["state"], sent["status"], len(hook.got)) == ("delivered", 200, 1)
    (listed,) = member("get", f"{path}/deliveries").json()["results"]
    assert listed == sent
    assert member("get", f"{path}/deliveries", state="failed").json()["results"] == []
    again = f"deliveries/{sent['id']}/again"
    assert [member("post", again).status_code for _ in range(2)] == [200, 409]
    Webhook.objects.update(disabled_at=found["created_at"], disabled_reason="status 500")
    assert member("get", path).json()["disabled_reason"] == "status 500"
    assert member("post", f"{path}/enable").json() == found
    assert [member("delete", path).status_code for _ in range(2)] == [204, 404]


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://example.com/", "https://127.0.0.1/", "http://[::1]/", "https://u:p@example.com/", 5]
)
def test_an_address_that_nothing_may_be_posted_to_is_said_of_its_field(member: Member, url: Any) -> None:
    refused = member("post", "webhooks", {"url": url})
    assert (refused.status_code, list(refused.json())) == (400, ["url"])
    assert not Webhook.objects.exists()


def test_no_more_webhooks_than_there_may_be(member: Member, hook: Receiver) -> None:
    for _ in range(telling.MOST_WEBHOOKS):
        assert member("post", "webhooks", {"url": hook.url}).status_code == 201
    assert member("post", "webhooks", {"url": hook.url}).status_code == 409


def test_what_was_told_is_listed_with_how_it_went_out(member: Member, stranger: Member, mailoutbox: Any) -> None:
    sent = member("post", "notices/test").json()
    assert (sent["state"], sent["webhook"], len(mailoutbox)) == ("delivered", None, 1)
    (told,) = member("get", "notices").json()["results"]
    assert (told["kind"], told["id"], told["deliveries"]) == ("test", str(Notice.objects.get().pk), [sent])
    assert stranger("get", "notices").json()["results"] == []


def test_letters_that_somebody_asks_for_are_few_in_an_hour(member: Member, mailoutbox: Any) -> None:
    answers = [member("post", "notices/test") for _ in range(telling.MOST_LETTERS + 1)]
    assert ([one.status_code for one in answers], len(mailoutbox)) == ([200] * 10 + [429], 10)
    assert 3500 < int(answers[-1].headers["Retry-After"]) <= 3601
    refused = member("post", f"deliveries/{answers[0].json()['id']}/again")
    assert (refused.status_code, len(mailoutbox)) == (429, 10)


def test_what_another_person_has_does_not_exist(member: Member, stranger: Member, hook: Receiver) -> None:
    made = member("post", "webhooks", {"url": hook.url}).json()["id"]
    sent = member("post", f"webhooks/{made}/test").json()["id"]
    for method, path in (
        ("get", f"webhooks/{made}"), ("delete", f"webhooks/{made}"), ("post", f"webhooks/{made}/test"),
        ("post", f"webhooks/{made}/enable"), ("get", f"webhooks/{made}/deliveries"),
        ("post", f"deliveries/{sent}/again"),
    ):  # fmt: skip
        assert stranger(method, path).status_code == 404, path
    assert stranger("get", "webhooks").json()["results"] == []
    assert (Webhook.objects.count(), Delivery.objects.count()) == (1, 1)


def addresses(personal: bool) -> list[str]:
    number = "00000000-0000-0000-0000-000000000001"
    found = []
    for route in urlpatterns:
        name = route.name or ""
        parts = {
            key: number if type(how).__name__ == "UUIDConverter" else 1 for key, how in route.pattern.converters.items()
        }
        if name != "api_schema" and name.startswith(PERSONAL) == personal:
            found.append(reverse(name, kwargs=parts))
    return found


def test_a_key_is_told_that_this_belongs_to_a_person(alice: User) -> None:
    program = management(team_of(alice))
    for address in addresses(personal=True):
        for method in ("get", "post", "patch", "delete"):
            refused = getattr(program.client, method)(address)
            assert refused.status_code == 403, address
            assert "belongs to a person" in refused.json()["detail"]


@pytest.mark.parametrize("personal", [False, True])
def test_nothing_is_answered_without_a_key_or_with_another_kind_of_key(alice: User, personal: bool) -> None:
    from keys import services as keys

    _, token = keys.issue(team_id=team_of(alice).pk, spec=keys.Spec(name="x"))
    for address in addresses(personal):
        assert Client().get(address).status_code == 401, address
        wrong = Program(token).client.get(address)
        assert (wrong.status_code, wrong.json()["detail"]) == (401, "Only a management key calls this API."), address


def test_a_session_writes_with_the_forms_token_only(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    for address in addresses(personal=False) + addresses(personal=True):
        for method in ("post", "patch", "delete"):
            refused = getattr(client, method)(address, {}, content_type="application/json")
            assert refused.status_code in (403, 405), address
            assert refused.status_code == 405 or "CSRF" in refused.json()["detail"], address
