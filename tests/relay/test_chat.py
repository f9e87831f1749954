"""A chat call from door to door, whole and streamed, on both databases through a real server."""

from tests.kit import client
from tests.kit.gateway import Customer, Gateway


def test_smoke(gateway: Gateway, customer: Customer) -> None:
    answer = client.chat(gateway.url, customer.token)
    print(answer.headers, answer.json())
    assert answer.status_code == 200
    answer = client.chat(gateway.url, customer.token, stream=True)
    print(client.events(answer))
    assert gateway.audit() == []
