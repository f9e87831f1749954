"""The relay's ASGI application: routes a path, runs its view, turns errors into the caller's envelope.

It runs without Django's middleware, signals and threads; what it needs of them, it does itself.
"""

import asyncio

import structlog

from relay import demo, urls
from relay.errors import Cause, RelayError
from relay.guard import Interrupted
from relay.http import Answer, ClientGone, Receive, Request, Scope, Send
from relay.pipeline import pisces
from relay.protocols.openai import errors as openai_errors
from relay.records import Call

log = structlog.get_logger(__name__)


async def handle(scope: Scope, receive: Receive, send: Send) -> None:
    """One HTTP request below the relay's paths."""
    if scope["path"].startswith(demo.PATH):
        await demo.app(scope, receive, send)
        return
    request = Request(scope, receive)
    call = Call(request_id="", endpoint="", protocol="openai", client_ip=request.client_ip)
    call.request_id = _request_id(request) or str(call.id)
    try:
        answer = await _answer(request, call)
        await _send(answer, call, request, send)
    except (ClientGone, Interrupted):
        await _send(Answer(499, [(b"content-type", b"application/json")], b"{}"), call, request, send)
    finally:
        request.client.close()


async def _answer(request: Request, call: Call) -> Answer:
    try:
        route, parameter = urls.resolve(request.method, request.path)
        call.endpoint, call.protocol = route.endpoint, route.protocol
        return await route.view(request, call, parameter)
    except RelayError as error:
        return _error_answer(error, call)
    except (ClientGone, Interrupted):
        raise
    except asyncio.CancelledError:  # the server ends; what the call held has been given back
        return _error_answer(RelayError(Cause.UNAVAILABLE, "The gateway is shutting down.", retry_after=1), call)
    except Exception:
        log.exception("relay.defect", call=str(call.id))
        return _error_answer(RelayError(Cause.INTERNAL, "The gateway failed. Nothing was charged."), call)


def _error_answer(error: RelayError, call: Call) -> Answer:
    told = pisces(call)
    headers = [(b"content-type", b"application/json"), *error.headers()]
    if call.channel:
        headers.append((b"x-pisces-channel", call.channel.encode("ascii", "replace")))
    if error.cause is Cause.TOO_LARGE:
        headers.append((b"connection", b"close"))  # the rest of the body is not worth reading
    return Answer(error.status, headers, openai_errors.encode(error, told))


async def _send(answer: Answer, call: Call, request: Request, send: Send) -> None:
    headers = [*answer.headers, (b"x-request-id", call.request_id.encode("ascii"))]
    if answer.pump is None:
        headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        return
    begun = False

    async def begin() -> None:
        # With the first bytes: the pump, which has the hold, runs before anything can wait for a client.
        nonlocal begun
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        begun = True

    async def write(data: bytes) -> None:
        if not begun:
            await begin()
        await send({"type": "http.response.body", "body": data, "more_body": True})

    await answer.pump(write)
    if not begun:
        await begin()
    await send({"type": "http.response.body", "body": b""})


def _request_id(request: Request) -> str:
    """The client's, if it is at most 128 visible ASCII characters."""
    given = request.headers.get(b"x-request-id", b"")
    visible = 0 < len(given) <= 128 and all(33 <= byte < 127 for byte in given)
    return given.decode("ascii") if visible else ""


def is_relay_path(path: str) -> bool:
    """Whether the relay, and not the portal, answers this path."""
    return urls.belongs(path) or path.startswith(demo.PATH)
