"""The ASGI application: relay paths to the lean handler, everything else to Django's.

The relay's background work (snapshots, leases) lives as long as the server does, by ASGI's lifespan protocol.
"""

import gc
import os
import warnings
from typing import Any

gc.disable()  # nothing of what is loaded now becomes garbage, and looking for it takes a fifth of the time
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from django.core.asgi import get_asgi_application

django = get_asgi_application()

from django.conf import settings
from django.core.signals import request_finished
from django.db import connections

from portal import bodies
from relay import handler, service

gc.enable()

# Static files, which whitenoise reads synchronously. They are small, and a proxy in front serves most of them.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

WEBHOOKS = "/webhooks/"


def _close_connections(**_: object) -> None:
    """A page's thread ends with its request; kept open, its connection would stay until somebody collects it, and a
    burst of pages or webhooks would use up what PostgreSQL has."""
    connections.close_all()


request_finished.connect(_close_connections, dispatch_uid="close_connections")

_HEALTHY = {"type": "http.response.body", "body": b"ok\n"}


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    kind = scope["type"]
    if kind == "http":
        path = scope["path"]
        if handler.is_relay_path(path):
            await handler.handle(scope, receive, send)
        elif path == "/healthz":
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"3")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send(_HEALTHY)
        elif refusal := _too_long(scope):
            await _refuse(send, refusal)
        else:
            await _page(scope, receive, send)
    elif kind == "lifespan":
        await _lifespan(receive, send)
    elif kind == "websocket":
        await send({"type": "websocket.close", "code": 1000})


async def _page(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = bodies.Bounded(receive)
    await django(scope, body.receive, send)
    if body.refusal:
        await _refuse(send, body.refusal)


def _too_long(scope: dict[str, Any]) -> int:
    """The status for a body that is longer than any, and for a webhook's that does not say how long it is; 0 for a good
    one.

    Anybody may send one: it is refused before a byte of it is read.
    """
    headers, webhook = dict(scope["headers"]), scope["path"].startswith(WEBHOOKS)
    length = headers.get(b"content-length")
    if length is None:
        return 411 if webhook and b"transfer-encoding" in headers else 0
    most = settings.MAX_BODY_WEBHOOK if webhook else settings.MAX_BODY_JSON
    return 413 if not length.isdigit() or int(length) > most else 0


async def _refuse(send: Any, status: int) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await service.start()
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                return
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await service.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
