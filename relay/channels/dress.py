"""How one channel's requests look on the wire, besides their body: address, credential, headers, proxy. Pure."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from relay.channels import presets
from relay.channels.presets import PLAIN, Quirks

KEY = "{key}"  # stands for the credential in a header that an operator writes
# The connection's own, which no override may set.
FIXED_HEADERS = frozenset((
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
    "proxy-authorization", "proxy-connection", "accept-encoding", "content-encoding",
))  # fmt: skip


class Dress(msgspec.Struct, frozen=True):
    """`headers` are the operator's, by lower-case name: a text replaces or adds, None removes. `parameters` is a merge
    patch of every body."""

    protocol: str = "openai"
    auth: str = "bearer"
    quirks: Quirks = PLAIN
    preset_headers: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str | None], ...] = ()
    parameters: Mapping[str, Any] | None = None
    proxy: str = ""


USUAL = Dress()


def of(
    preset: str,
    protocol: str,
    *,
    headers: Mapping[str, str | None],
    parameters: Mapping[str, Any],
    proxy: str = "",
    site: str = "",
) -> Dress:
    """`site` is the installation's own address, which some providers want to be told."""
    row = presets.of(preset)
    own = tuple((name, value.replace("{site}", site)) for name, value in row.headers)
    return Dress(
        protocol,
        row.auth_for(protocol),
        row.quirks_for(protocol),
        (*presets.USUAL_HEADERS.get(protocol, ()), *own),
        tuple((name.lower(), value) for name, value in headers.items()),
        dict(parameters) or None,
        proxy,
    )


def headers(dress: Dress, sent: Mapping[str, str], secret: str | None) -> dict[str, str]:
    """`sent` is what the request has by itself; then come the credential, the provider's, the operator's. A name is
    there once, whatever its case."""
    found = {name.lower(): (name, value) for name, value in sent.items()}
    where, before = presets.AUTH[dress.auth]
    if secret is not None and where and not where.startswith("?"):
        found[where.lower()] = (where, before + secret)
    for name, value in dress.preset_headers:
        found.setdefault(name.lower(), (name, value))
    for name, override in dress.headers:
        if override is None or (KEY in override and secret is None):
            found.pop(name, None)
        else:
            found[name] = (name, override.replace(KEY, secret or ""))
    return dict(found.values())


def address(base: str, path: str, *, protocol: str, quirks: Quirks = PLAIN, model: str = "") -> str:
    """The URL of a call. Both spellings of a base URL work: with the version, as the vendor's SDK takes it, and
    without. `path` is the protocol's, below the version; it may have a query."""
    base = base.rstrip("/")
    if has_version(base, protocol) or quirks.unversioned:
        return f"{base}{path}"
    if quirks.path:
        return _with(f"{base}{quirks.path.format(model=quote(model, safe=''))}{path}", quirks.query)
    return f"{base}/{presets.VERSIONS.get(protocol, 'v1')}{path}"


def with_key(url: str, dress: Dress, secret: str | None) -> str:
    """The URL with the credential in its query, for a provider that wants it there."""
    where, _ = presets.AUTH[dress.auth]
    if secret is None or not where.startswith("?"):
        return url
    return _with(url, f"{where[1:]}={quote(secret, safe='')}")


# Whose SDKs put the version behind the base URL, so that one before its end is somebody else's: that of a gateway
# (https://gateway.ai.cloudflare.com/v1/ACCOUNT/GATEWAY/anthropic).
_VERSION_COMES_LAST = ("anthropic", "gemini")
_RESOURCES = ("projects", "publishers")  # behind its version, a base URL of Vertex AI goes on with these


def has_version(base: str, protocol: str) -> bool:
    """Whether the address has the protocol's version in its path, such as v1 or v1beta."""
    parts = [*urlsplit(base).path.split("/"), ""]
    behind = [after for part, after in pairwise(parts) if part[:1] == "v" and part[1:2].isdigit()]
    if protocol in _VERSION_COMES_LAST:
        return any(after in ("", *_RESOURCES) for after in behind)
    return bool(behind)


def _with(url: str, query: str) -> str:
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{query}"
