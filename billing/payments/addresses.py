"""Which addresses of a provider we may speak to: public ones over TLS, and a scripted provider on the loopback."""

import ipaddress
from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def allowed(url: str) -> bool:
    """HTTPS to a name or a public address, or anything on the loopback; never the private network."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if not host or parts.username or parts.password:
        return False
    if host in LOOPBACK:
        return parts.scheme in ("http", "https")
    try:
        return parts.scheme == "https" and ipaddress.ip_address(host).is_global
    except ValueError:
        return parts.scheme == "https"
