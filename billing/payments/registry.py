"""The table of the providers. One more is its module, a line here, and one in the contract of independence."""

from billing.payments import Provider, epay, stripe

PROVIDERS: dict[str, Provider] = {
    stripe.NAME: stripe,
    epay.NAME: epay,
}


def configured() -> list[Provider]:
    """Those that may be offered, in the table's order."""
    return [provider for provider in PROVIDERS.values() if provider.configured()]


def find(name: str) -> Provider | None:
    """The provider of this name if its deliveries may be taken: without its secrets it is not there."""
    provider = PROVIDERS.get(name)
    return provider if provider is not None and provider.configured() else None
