"""What tests of channels do with them: more credentials, rows that were left, calls."""

from typing import Any

import requests

from tests.kit import client
from tests.kit.gateway import Customer, Gateway


def credentials(gateway: Gateway, model: str, number: int, *secrets: str) -> list[int]:
    """Gives a channel more credentials; the ids of all of them, oldest first."""
    from relay import services
    from relay.models import Channel

    with gateway.inside():
        channel = Channel.objects.get(name=f"{model}-{number}")
        services.add_credentials(channel, secrets)
        return list(channel.credentials.order_by("pk").values_list("pk", flat=True))


def row(gateway: Gateway, pk: int) -> dict[str, Any]:
    from relay.models import Credential

    with gateway.inside():
        return dict(Credential.objects.filter(pk=pk).values("disabled_at", "disabled_reason", "enabled").get())


def reported(gateway: Gateway, pk: int) -> list[Any]:
    """What processes have stored of a credential's health."""
    from relay.channels import routing
    from relay.models import HealthReport

    with gateway.inside():
        return list(HealthReport.objects.filter(key=routing.credential_key(pk)).values_list("content", flat=True))


def answered(url: str, customer: Customer, model: str, **body: Any) -> int:
    return client.chat(url, customer.token, model=model, **body).status_code


def ask(gateway: Gateway, customer: Customer, path: str, **body: Any) -> requests.Response:
    """A call of any endpoint with the customer's key."""
    headers = {"Authorization": f"Bearer {customer.token}"}
    return requests.post(gateway.url + path, json=body, headers=headers, timeout=30)
