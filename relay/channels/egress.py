"""The only ways to a URL that a user gave: fetching pictures and files for upstreams that fetch none themselves, and
posting notices (`post`).

Whoever sends a URL chooses where this machine connects to, so: http and https only, public addresses only (the name is
resolved once, vetted, and that address is connected to), every redirect vetted anew, no credentials, no cookies, a
bounded size and time. A URL is parsed once, so that what was vetted is what is connected to. `FETCH_URLS=false` turns
it off; `FETCH_FROM` names servers (host:port) that may be private.
"""

import asyncio
import socket
from collections.abc import Collection, Mapping
from typing import NamedTuple

import aiohttp
from django.conf import settings
from yarl import URL

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
            return await _follow(URL(url))
    except TimeoutError as error:
        raise _refused(f"{_shown(url)} did not answer in time.") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _refused(f"{_shown(url)} cannot be fetched.") from error


async def _follow(url: URL) -> Fetched:
    for _ in range(MOST_REDIRECTS + 1):
        private = _vet(url)
        session = upstream.sessions.get(private=private)
        headers = {"User-Agent": "pisces", "Accept": "*/*"}
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status in _REDIRECTS:
                url = url.join(URL(response.headers.get("Location", "")))
                continue
            if response.status != 200:
                raise _refused(f"{_shown(url)} answered with status {response.status}.")
            return Fetched(response.content_type, await _body(response, url))
    raise _refused(f"{_shown(url)} redirects too often.")


# ---- posting --------------------------------------------------------------------------------------------------------

POST_WITHIN = 15.0  # seconds, from the look-up of the name to the end of the answer
POST_ANSWER = 1024  # bytes of an answer that anybody looks at


class Undeliverable(Exception):
    """Nothing was delivered, or nobody said so; the message says why and is fit for a user."""


class Posted(NamedTuple):
    """The answer's status, and the beginning of its body."""

    status: int
    answer: str


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: Collection[str] = ()) -> Posted:
    """Posts to a user's address, for workers and pages, which have no event loop. Redirects are answers, not followed.

    `private` names servers (host:port) that may have a private address. Raises Undeliverable.
    """
    address = _parsed(url)
    return asyncio.run(_post(address, body, headers, _vet_post(address, private)))


def check(url: str, *, private: Collection[str] = ()) -> None:
    """Whether notices may be posted there, as far as can be told now. Raises Undeliverable.

    A name may have another address tomorrow: it is vetted again each time that something is posted.
    """
    address = _parsed(url)
    if _vet_post(address, private):
        return
    try:
        found = socket.getaddrinfo(address.raw_host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Undeliverable("the name has no address") from error
    if not all(upstream.is_public(str(each[4][0])) for each in found):
        raise Undeliverable("the address is private")


def _parsed(url: str) -> URL:
    try:
        return URL(url)
    except ValueError as error:
        raise Undeliverable("this is no address") from error


def _vet_post(url: URL, private: Collection[str]) -> bool:
    """Whether the server is one that may be private. Raises Undeliverable for what may not be posted to at all."""
    if not _is_plain(url):
        raise Undeliverable("the address must begin with https:// and name no user")
    if _server(url) in private:
        return True
    if url.scheme != "https":
        raise Undeliverable("the address must begin with https://")
    if not upstream.may_be_public(url):
        raise Undeliverable("the address is private")
    return False


async def _post(url: URL, body: bytes, headers: Mapping[str, str], private: bool) -> Posted:
    try:
        async with asyncio.timeout(POST_WITHIN), upstream.own_session(private=private) as session:
            sent = {"User-Agent": "pisces", "Accept-Encoding": "identity", **headers}
            async with session.post(url, data=body, headers=sent, allow_redirects=False) as response:
                answer = await response.content.read(POST_ANSWER)
                return Posted(response.status, answer.decode(errors="replace"))
    except TimeoutError as error:
        raise Undeliverable("no answer in time") from error
    except upstream.Forbidden as error:
        raise Undeliverable("the address is private") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        private_name = isinstance(error.__cause__, upstream.Forbidden)
        raise Undeliverable("the address is private" if private_name else "no connection, or no answer") from error


# ---- fetching -------------------------------------------------------------------------------------------------------


def _vet(url: URL) -> bool:
    """Whether the server is one that may be private. Raises RelayError for what may not be fetched at all."""
    if not _is_plain(url):
        raise _refused(f"{_shown(url)} is no http or https address.")
    if _server(url) in settings.FETCH_FROM:
        return True
    if not upstream.may_be_public(url):
        raise _refused(f"{_shown(url)} is a private address.")
    return False


def _is_plain(url: URL) -> bool:
    """An http or https address that names a host and no user."""
    return url.scheme in ("http", "https") and bool(url.raw_host) and not url.raw_user and not url.raw_password


def _server(url: URL) -> str:
    """As the settings name servers that may be private."""
    return f"{url.raw_host}:{url.port}"


async def _body(response: aiohttp.ClientResponse, url: URL) -> bytes:
    if (response.content_length or 0) > MOST_BYTES:
        raise _too_large(url)
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > MOST_BYTES:
            raise _too_large(url)
    return bytes(content)


def _too_large(url: URL) -> RelayError:
    return _refused(f"{_shown(url)} is larger than {MOST_BYTES >> 20} MB.")


def _refused(message: str) -> RelayError:
    return RelayError(Cause.INVALID_PARAMETER, message, param="messages")


def _shown(url: URL | str) -> str:
    """Without its query, which may be a secret."""
    return repr(str(url).partition("?")[0][:200])
