"""The only way to fetch a URL that a user gave: pictures and files for upstreams that fetch none themselves.

Whoever sends a URL chooses where this machine connects to, so: http and https only, public addresses only (the name is
resolved once, vetted, and that address is connected to), every redirect vetted anew, no credentials, no cookies, a
bounded size and time. `FETCH_URLS=false` turns it off; `FETCH_FROM` names servers (host:port) that may be private.
"""

import asyncio
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp
from django.conf import settings

from relay.channels import upstream
from relay.errors import Cause, RelayError

MOST_REDIRECTS = 3
WITHIN = 15.0  # seconds, with all redirects
MOST_BYTES = 20 * 1024 * 1024
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class Fetched(NamedTuple):
    """`mime` as the server says, without its parameters."""

    mime: str
    data: bytes


async def fetch(url: str) -> Fetched:
    """Raises RelayError (400) for an address that may not be fetched, or that gives nothing in time."""
    if not settings.FETCH_URLS:
        raise _refused("This gateway fetches no URLs; send the file's data instead.")
    try:
        async with asyncio.timeout(WITHIN):
            return await _follow(url)
    except TimeoutError as error:
        raise _refused(f"{_shown(url)} did not answer in time.") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _refused(f"{_shown(url)} cannot be fetched.") from error


async def _follow(url: str) -> Fetched:
    for _ in range(MOST_REDIRECTS + 1):
        private = _vet(url)
        session = upstream.sessions.get(private=private)
        headers = {"User-Agent": "pisces", "Accept": "*/*"}
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status in _REDIRECTS:
                url = urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise _refused(f"{_shown(url)} answered with status {response.status}.")
            return Fetched(response.content_type, await _body(response, url))
    raise _refused(f"{_shown(url)} redirects too often.")


def _vet(url: str) -> bool:
    """Whether the server is one that may be private. Raises RelayError for what may not be fetched at all."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise _refused(f"{_shown(url)} is no http or https address.")
    if f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}" in settings.FETCH_FROM:
        return True
    if not upstream.may_be_public(host):
        raise _refused(f"{_shown(url)} is a private address.")
    return False


async def _body(response: aiohttp.ClientResponse, url: str) -> bytes:
    if (response.content_length or 0) > MOST_BYTES:
        raise _too_large(url)
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > MOST_BYTES:
            raise _too_large(url)
    return bytes(content)


def _too_large(url: str) -> RelayError:
    return _refused(f"{_shown(url)} is larger than {MOST_BYTES >> 20} MB.")


def _refused(message: str) -> RelayError:
    return RelayError(Cause.INVALID_PARAMETER, message, param="messages")


def _shown(url: str) -> str:
    """Without its query, which may be a secret."""
    return repr(url.partition("?")[0][:200])
