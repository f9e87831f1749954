"""The only module that opens a connection to a provider."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from types import TracebackType
from typing import Any, ClassVar

import aiohttp
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from django.conf import settings
from yarl import URL

from relay import demo, transports
from relay.channels import dress, health, presets
from relay.channels.routing import Candidate, Secret
from relay.errors import Cause, RelayError
from relay.guard import Guard

LONGEST_ERROR = 64 * 1024
ERROR_WITHIN = 2.0  # seconds that the body of an error may take
LONGEST_LIST = 4 * 1024 * 1024  # bytes of a provider's list of models
_AT_ONCE = 64 * 1024  # bytes of a request that a connection takes without waiting for the provider
_STALE = 3  # kept connections, at most, that a request may find closed
FINISH_WITHIN, FINISH_BYTES = 0.5, 1024
_COMMON = {"Accept-Encoding": "identity", "User-Agent": "pisces"}
_AUTOMATIC = ("Accept", "Content-Type", "User-Agent")  # what the client puts in where they are missing


class Forbidden(OSError):
    """The address is private and the channel may only reach public ones."""


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all that IANA has given out; no form that stands for an IPv4
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Special, though the library calls them global (IANA's registry of special-purpose addresses; RFC 7526).
_SPECIAL = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("192.88.99.0/24"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, v4-mapped and transition forms unwrapped."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)
    inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    if inner is None and ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(str(inner))
    return ip.is_global and ip in _GLOBAL_UNICAST


class _PublicResolver(AbstractResolver):
    """Resolves a name and refuses it if any of its addresses is private; what was vetted is what is connected to."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if any(not is_public(result["host"]) for result in found):
            raise Forbidden(f"{host} has a private address")
        return found

    async def close(self) -> None:
        await self._inner.close()


def _public_socket(found: aiohttp.AddrInfoType) -> socket.socket:
    """A socket to a public address. The second wall: a host that is an address itself never meets the resolver, and
    here, whatever its spelling was, stands what is connected to."""
    family, kind, protocol, _, address = found
    if not is_public(str(address[0])):
        raise Forbidden("the address is private")
    return socket.socket(family, kind, protocol)


# Whether a connection was opened since this was last set to False.
_opened: ContextVar[bool] = ContextVar("opened", default=False)


class _Connector(aiohttp.TCPConnector):
    """Tells those who are given a new connection that it is, and gives nobody a kept one on which anything has come
    since its last answer: that is no answer to the next request (RFC 9112, section 9.2), and all that follow would get
    the answer before theirs, which may be somebody else's."""

    async def _get(self, key: ConnectionKey, traces: list[Any]) -> Connection | None:
        while (kept := await super()._get(key, traces)) is not None:
            if kept.protocol is not None and not kept.protocol.should_close:
                return kept
            kept.close()
        return None

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        _opened.set(True)
        return await super()._create_connection(req, traces, timeout)


class _Sessions:
    """One pooled session for public upstreams and one for the operator's own, in this process's event loop."""

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def get(self, *, private: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(private)
        if session is None or session.closed:
            connector = _Connector(
                limit=0,
                ttl_dns_cache=30,
                keepalive_timeout=30,
                resolver=None if private else _PublicResolver(),
                socket_factory=None if private else _public_socket,
            )
            session = self._sessions[private] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=64 * 1024,
                max_line_size=32 * 1024,
                max_field_size=32 * 1024,
            )
        return session

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


sessions = _Sessions()


@contextlib.asynccontextmanager
async def own_session(*, private: bool) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for as long as the block lasts: for those who have no event loop that lasts longer."""
    own = _Sessions()
    try:
        yield own.get(private=private)
    finally:
        await own.close()


class _Reading:
    """Turns what breaks while an answer is read into a RelayError. It keeps nothing, so that there is but one."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, aiohttp.ClientError | OSError):
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer broke off.") from error


class _Upload(aiohttp.UploadTracker):
    """A request that is sent in several pieces. A provider may have answered, or have been given up, before it has read
    all of them, and read no more: the connection would wait for ever until it does."""

    _transport: asyncio.WriteTransport | None = None

    def _attempt_writing(self, gen: int, writer: AbstractStreamWriter) -> None:
        """The body begins to go out."""
        self._transport = writer.transport
        super()._attempt_writing(gen, writer)

    def end(self) -> None:
        """Ends the connection if the request has not been sent to its end, and drops the rest of it."""
        sent = self.upload_complete.done() and self.upload_complete.exception() is None
        if not sent and self._transport is not None:
            transports.reset(self._transport)


class Reply:
    """An upstream's answer whose headers have arrived. Its bytes are read inside `with reply.reading:`, which turns
    what breaks into a RelayError."""

    reading: ClassVar[_Reading] = _Reading()

    __slots__ = ("_response", "_upload", "chunk", "received", "retry_after", "status")

    def __init__(self, response: aiohttp.ClientResponse, upload: "_Upload | None" = None) -> None:
        self._response = response
        self._upload = upload
        self.status = response.status
        self.received = 0
        self.retry_after = response.headers.get("Retry-After")
        # The next bytes; empty at the end. The reader's own method, for it is called with every chunk.
        packed = "Content-Encoding" in response.headers
        self.chunk: Callable[[], Awaitable[bytes]] = self._unpacked if packed else response.content.readany

    async def read(self, guard: Guard) -> bytes:
        """The whole body, each part a sign of life. Raises RelayError where it breaks off or passes MAX_ANSWER."""
        parts = []
        with self.reading:
            while part := await self.part():
                guard.signs += 1
                parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _unpacked(self) -> bytes:
        """The next bytes of a compressed answer. A few that came may stand for gigabytes, none of which is waited for
        any more: so other calls have their turn before each part, and this one's deadlines are kept."""
        await asyncio.sleep(0)
        return await self._response.content.readany()

    async def part(self) -> bytes:
        """The next bytes of an answer that nobody is given before its end. Raises RelayError where it passes
        MAX_ANSWER."""
        part = await self.chunk()
        self.received += len(part)
        if self.received > settings.MAX_ANSWER:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer is too large.")
        return part

    async def read_error(self) -> bytes:
        """The beginning of an error's body, whatever happens to the rest: what the status says is not lost with a body
        that does not come."""
        content = b""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(ERROR_WITHIN):
                while len(content) < LONGEST_ERROR and (part := await self._response.content.read(LONGEST_ERROR)):
                    content += part
        return content[:LONGEST_ERROR]

    async def finish(self) -> None:
        """Reads what little may follow an answer's own end, so that the connection can be used again."""
        if not self._response.content.at_eof():
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(FINISH_WITHIN):
                    await self._response.content.read(FINISH_BYTES)

    def close(self) -> None:
        """Lets the upstream go: its connection is closed unless the answer was read to its end."""
        self._response.close() if not self._response.content.at_eof() else self._response.release()
        if self._upload is not None:
            self._upload.end()


async def post(
    candidate: Candidate,
    secret: Secret | None,
    path: str,
    body: bytes,
    *,
    stream: bool,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Sends a request, with what its protocol adds to the headers, and waits for the answer's. `path` is the
    protocol's, below the version. Raises RelayError where there is no answer."""
    sent = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if stream else "application/json",
        **_COMMON,
        **(headers or {}),
    }
    session = sessions.get(private=candidate.private)
    return await _send(session, "POST", candidate, secret, path, sent, body)


async def get(candidate: Candidate, secret: Secret | None, path: str, *, within: float) -> tuple[int, bytes]:
    """The status and the body of a GET, with a session of its own: for workers and pages, which have no event loop that
    lasts. Raises RelayError where there is no answer within so many seconds."""
    headers = {"Accept": "application/json", **_COMMON}
    try:
        async with asyncio.timeout(within), own_session(private=candidate.private) as session:
            reply = await _send(session, "GET", candidate, secret, path, headers, None)
            try:
                content = b""
                with reply.reading:
                    while len(content) < LONGEST_LIST and (part := await reply.chunk()):
                        content += part
                return reply.status, content
            finally:
                reply.close()  # also where the answer is longer, or stops in the middle
    except TimeoutError as error:
        raise RelayError(Cause.UPSTREAM_TIMEOUT, "The provider did not answer in time.") from error


async def _send(
    session: aiohttp.ClientSession,
    method: str,
    candidate: Candidate,
    secret: Secret | None,
    path: str,
    sent: Mapping[str, str],
    body: bytes | None,
) -> Reply:
    """The answer's head. Raises RelayError; its text names neither an address nor a credential.

    A provider may close a connection that has stood idle just as the next request goes out on it (RFC 9112, section
    9.3.1). That is no failure of the provider's: the request goes out again on another one, where it may be repeated at
    all after a connection that broke without an answer.
    """
    try:
        url, headers, proxy = _addressed(candidate, secret, path, sent)
        # What an operator has removed is not put back. Where nothing is, even an empty list would cost a copy of them.
        removed = [name for name in _AUTOMATIC if name not in headers] or None
        stale = _STALE if health.Kind.CONNECT in candidate.retry_on else 0
        while True:
            _opened.set(False)
            upload = _Upload() if body is not None and len(body) > _AT_ONCE else None
            try:
                response = await session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    skip_auto_headers=removed,
                    allow_redirects=False,
                    timeout=_timeout(candidate.timeouts.connect),
                    proxy=proxy,
                    upload_tracker=upload,
                )
            except BaseException as error:
                if upload is not None:
                    upload.end()
                if not _was_kept_too_long(error) or not stale:
                    raise
                stale -= 1
            else:
                return Reply(response, upload)
    except (TimeoutError, aiohttp.ServerTimeoutError) as error:
        raise RelayError(Cause.UPSTREAM_TIMEOUT, "The provider did not accept a connection in time.") from error
    except (aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, _connect_failure(error)) from error


def _addressed(
    candidate: Candidate, secret: Secret | None, path: str, sent: Mapping[str, str]
) -> tuple[URL, dict[str, str], URL | None]:
    """Where a request goes, with which headers, through which proxy. Raises Forbidden."""
    base, own, key = candidate.base_url, candidate.dress, secret.value if secret else None
    if base == demo.ADDRESS:
        base, own, key = demo.base_url(), dress.USUAL, demo.secret()
    url = endpoint_url(base, path, own.protocol, own.quirks, candidate.model)
    if own.auth == "query-key":
        url = URL(dress.with_key(str(url), own, key))
    proxy = URL(own.proxy) if own.proxy else None
    _vet_literal(url, candidate)
    if proxy is not None:
        _vet_literal(proxy, candidate)
    return url, dress.headers(own, sent, key), proxy


def _was_kept_too_long(error: BaseException) -> bool:
    """Whether a kept connection broke before an answer's head had begun."""
    if _opened.get() or not isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return False
    return not isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(error.message, str)


@lru_cache(maxsize=64)
def _timeout(connect: float) -> aiohttp.ClientTimeout:
    """Only the connection's; all others are the guard's."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect)


@lru_cache(maxsize=1024)
def endpoint_url(
    base: str, path: str, protocol: str = "openai", quirks: presets.Quirks = presets.PLAIN, model: str = ""
) -> URL:
    return URL(dress.address(base, path, protocol=protocol, quirks=quirks, model=model))


def _vet_literal(url: URL, candidate: Candidate) -> None:
    """A literal address never meets the resolver."""
    if not candidate.private and not may_be_public(url):
        raise Forbidden(f"{url.raw_host} is a private address")


def may_be_public(url: URL) -> bool:
    """Whether the host is a public address, or a name, which the resolver vets.

    It is asked about the very value that is connected to, because another parser may read another host in the same
    text: urllib leaves digits and full stops of other scripts as they are, IDNA makes an address of them.
    """
    host = url.raw_host or ""
    try:
        return is_public(host)
    except ValueError:
        # "127.1" and "2130706433" are addresses to the system and no names to the resolver, so nobody would vet them.
        return not host.replace(".", "").isdigit()


def _connect_failure(error: Exception) -> str:
    if isinstance(error, Forbidden) or isinstance(error.__cause__, Forbidden):
        return "The channel's address is not allowed."
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return "The channel's proxy refused the connection."
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return "The channel's proxy did not let the call through."
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "The provider's name could not be resolved."
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "The provider's certificate cannot be trusted for its address."
    if isinstance(error, aiohttp.ClientSSLError):
        return "No TLS could be agreed on with the provider."
    if isinstance(error, aiohttp.ClientConnectorError):
        return "The provider refused the connection."
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "The provider closed the connection without an answer."
    return "The provider's answer is not HTTP that can be understood."


async def close() -> None:
    await sessions.close()
    await asyncio.sleep(0)
