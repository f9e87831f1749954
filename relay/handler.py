"""The relay's ASGI application: lets a caller in, runs the view of a path, turns errors into the caller's envelope.

It runs without Django's middleware, signals and threads; what it needs of them, it does itself. What a route that
costs money needs besides its view (the key, the body, `Idempotency-Key`), it gets here by being such a route.
"""

import asyncio

import structlog
from django.conf import settings

from billing import holds
from keys.services import Principal
from relay import bridge, demo, idempotency, pipeline, snapshot, urls
from relay.delivery import pisces
from relay.errors import Cause, RelayError
from relay.guard import Interrupted
from relay.http import Answer, ClientGone, Headers, Message, Outlet, Receive, Request, Scope, Send
from relay.records import Call
from relay.urls import Route
from relay.views import door

log = structlog.get_logger(__name__)


async def handle(scope: Scope, receive: Receive, send: Send) -> None:
    """One HTTP request below the relay's paths."""
    if scope["path"].startswith(demo.PATH):
        await demo.app(scope, receive, send)
        return
    request = Request(scope, receive)
    call = _call_of(request)
    # The server makes a task for each request, and cancels it only when it ends itself, never because a client left:
    # then the call pays for what it used, tells its client, and returns.
    outlet = Outlet(send)
    await _serve(request, call, outlet)
    await outlet.flush(within=settings.SEND_STALL)
    request.client.close()


def refuse_unknown(scope: Scope) -> Answer | None:
    """What a program is told that asks for what neither the relay nor the portal has; None for a reader.

    A program brings a key, in a header or the query, and does not ask for HTML.
    """
    request = Request(scope, _unread)
    call = _call_of(request)
    if b"text/html" in request.headers.get(b"accept", b"") or door.token_in_headers(request, call.protocol) is None:
        return None
    answer = _error_answer(urls.unknown(request.path), call)
    return Answer(answer.status, _labelled(answer, call), answer.body)


async def _unread() -> Message:
    raise ClientGone


def _call_of(request: Request) -> Call:
    call = Call(request_id="", endpoint="", protocol=door.protocol_of(request), client_ip=request.client_ip)
    call.request_id = _request_id(request) or str(call.id)
    return call


async def _serve(request: Request, call: Call, outlet: Outlet) -> None:
    """Answers the request into the outlet."""
    try:
        answer = await _answer(request, call)
        headers = _labelled(answer, call)
        if answer.pump is None:
            headers.append((b"content-length", str(len(answer.body)).encode()))
            outlet.head(answer.status, headers)
            outlet.end(answer.body)
            return
        outlet.head(answer.status, headers)
        try:
            await answer.pump(outlet)
        finally:
            outlet.end()
    finally:
        call.leave_limits()


def _labelled(answer: Answer, call: Call) -> Headers:
    """The answer's headers, those of the limits and the request's id."""
    label = call.request_id.encode("ascii")
    headers = [*answer.headers, *call.rate_headers, (b"x-request-id", label)]
    if call.protocol == "anthropic":
        headers.append((b"request-id", label))  # where that vendor's clients look for it
    return headers


async def _answer(request: Request, call: Call) -> Answer:
    try:
        route, parameter = urls.resolve(request.method, request.path)
        call.endpoint, call.protocol = route.endpoint, route.protocol or call.protocol
        call.principal = await _admit(request, call, route)
        if not route.paid:
            return await route.view(request, call, parameter)
        return await _once(request, call, route, parameter)
    except RelayError as error:
        return _error_answer(error, call)
    except (ClientGone, Interrupted):
        return Answer(499, [(b"content-type", b"application/json")], b"{}")
    except asyncio.CancelledError:  # the server ends; what the call held has been given back
        return _error_answer(RelayError(Cause.UNAVAILABLE, "The gateway is shutting down.", retry_after=1), call)
    except Exception:
        log.exception("relay.defect", call=str(call.id))
        return _error_answer(RelayError(Cause.INTERNAL, "The gateway failed. Nothing was charged."), call)


async def _admit(request: Request, call: Call, route: Route) -> Principal:
    """Who calls, with the body read where the route takes one. Of a body that was long in coming nobody is let in by
    what was in force when it began."""
    token = door.token_in_headers(request, call.protocol)
    if (
        token is None and route.method == "POST"
    ):  # then only the body can bear a key, and is read before anyone is known
        await request.read()
        return await pipeline.authenticate(door.token_in_body(request), call)
    principal = await pipeline.authenticate(token, call)
    if route.method == "POST":
        await request.read()
        if call.elapsed_ms() >= 1000 * snapshot.POLL_EVERY:
            return await pipeline.authenticate(token, call)
    return principal


async def _once(request: Request, call: Call, route: Route, parameter: str) -> Answer:
    """The view's answer, or the one that this idempotency key was answered before."""
    call.claim = claim = idempotency.claim_of(request, f"{route.method} {route.path} {parameter}")
    if claim is None:
        return await route.view(request, call, parameter)
    assert call.principal
    if (before := await idempotency.earlier(claim, call.principal)) is not None:
        return before
    try:
        return await route.view(request, call, parameter)
    except holds.KeyClaimed as taken:  # since we looked
        return await idempotency.replay(claim, call.principal, taken.call, taken.fingerprint)


def _error_answer(error: RelayError, call: Call) -> Answer:
    told = pisces(call)
    headers = [(b"content-type", b"application/json"), *error.headers()]
    if call.channel:
        headers.append((b"x-pisces-channel", call.channel.encode("ascii", "replace")))
    if error.cause is Cause.TOO_LARGE:
        headers.append((b"connection", b"close"))  # the rest of the body is not worth reading
    return Answer(error.status, headers, bridge.refusal(error, call.protocol, told))


def _request_id(request: Request) -> str:
    """The client's, if it is at most 128 visible ASCII characters."""
    given = request.headers.get(b"x-request-id", b"")
    visible = 0 < len(given) <= 128 and all(33 <= byte < 127 for byte in given)
    return given.decode("ascii") if visible else ""


def is_relay_path(path: str) -> bool:
    """Whether the relay, and not the portal, answers this path."""
    return urls.belongs(path) or path.startswith(demo.PATH)
