"""Where somebody is who asks for a page or calls the management API."""

from django.http import HttpRequest
from rest_framework.request import Request

from relay.http import client_address


def of(request: HttpRequest | Request) -> str:
    """The IP address, as the relay finds it too: the peer's, or what the last of our own proxies saw."""
    return client_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))
