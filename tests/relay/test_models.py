"""`GET /v1/models`: what this key may call, and nothing else."""

from typing import Any

import requests

from tests.kit import client
from tests.kit.gateway import Customer, Gateway


def get(gateway: Gateway, token: str, path: str) -> requests.Response:
    return requests.get(gateway.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def names(answer: requests.Response) -> set[str]:
    body: dict[str, Any] = answer.json()
    assert body["object"] == "list"
    return {model["id"] for model in body["data"]}


def test_the_list_has_what_is_priced_offered_and_served(gateway: Gateway, customer: Customer) -> None:
    found = names(get(gateway, customer.token, "/v1/models"))
    assert {"chat", "same-name", "[M]vendor/model-1", "per-call", "free", "not-chat"} <= found
    assert not {"unpriced", "withdrawn", "no-channel", "up-chat", "unknown"} & found


def test_a_model_has_openai_s_shape(gateway: Gateway, customer: Customer) -> None:
    for name in ("chat", "[M]vendor/model-1", "%5BM%5Dvendor%2Fmodel-1"):
        body = get(gateway, customer.token, f"/v1/models/{name}").json()
        assert body["object"] == "model"
        assert body["id"] in ("chat", "[M]vendor/model-1")
        assert isinstance(body["created"], int)
        assert body["owned_by"]


def test_a_key_with_chosen_models_sees_and_calls_only_those(gateway: Gateway, customer: Customer) -> None:
    _, token = gateway.issue(customer.team, type="restricted", models=["chat", "free"])
    assert names(get(gateway, token, "/v1/models")) == {"chat", "free"}
    assert get(gateway, token, "/v1/models/chat").status_code == 200
    hidden = get(gateway, token, "/v1/models/per-call")
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "invalid_model")
    assert client.chat(gateway.url, token, model="chat").status_code == 200
    refused = client.chat(gateway.url, token, model="per-call")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")


def test_a_test_key_sees_the_demo_channel_s_models_alone(gateway: Gateway, customer: Customer) -> None:
    _, token = gateway.issue(customer.team, type="test")
    assert names(get(gateway, token, "/v1/models")) == {"demo-chat"}
    assert get(gateway, token, "/v1/models/demo-chat").status_code == 200
    hidden = get(gateway, token, "/v1/models/chat")
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "invalid_model")


def test_an_unknown_model_is_a_404_and_a_missing_key_a_401(gateway: Gateway, customer: Customer) -> None:
    answer = get(gateway, customer.token, "/v1/models/unknown")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "invalid_model")
    answer = requests.get(f"{gateway.url}/v1/models", timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_key_without_the_endpoint_does_not_see_models(gateway: Gateway, customer: Customer) -> None:
    _, token = gateway.issue(customer.team, type="restricted", endpoints=["chat.completions"])
    answer = get(gateway, token, "/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    assert client.chat(gateway.url, token).status_code == 200
    _, other = gateway.issue(customer.team, type="restricted", endpoints=["models"])
    assert get(gateway, other, "/v1/models").status_code == 200
    assert client.chat(gateway.url, other).json()["error"]["code"] == "permission_denied"


def test_a_key_from_another_address_sees_nothing(gateway: Gateway, customer: Customer) -> None:
    _, token = gateway.issue(customer.team, networks=["203.0.113.0/24"])
    assert get(gateway, token, "/v1/models").json()["error"]["code"] == "permission_denied"
