"""From a provider's request to the books."""

import msgspec

from billing.payments import Delivery, Outcome, Provider, booking


def accept(provider: Provider, delivery: Delivery) -> Outcome:
    """What became of a delivery. Raises Forged and Malformed, and ProviderFailed where more had to be asked for.

    Nothing is asked, and no row written, before the signature is found good.
    """
    event = provider.receive(delivery)
    if event.refunds_of and not booking.seen(provider.NAME, event):
        event = msgspec.structs.replace(event, facts=provider.refunds(event.refunds_of))
    return booking.deliver(provider=provider.NAME, event=event)
