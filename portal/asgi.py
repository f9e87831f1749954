"""The ASGI application: relay paths to the lean handler, everything else to Django's.

The relay's background work (snapshots, leases) lives as long as the server does, by ASGI's lifespan protocol.
"""

import os
import warnings
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from django.core.asgi import get_asgi_application

django = get_asgi_application()

from relay import handler, service

# Static files, which whitenoise reads synchronously. They are small, and a proxy in front serves most of them.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

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
        else:
            await django(scope, receive, send)
    elif kind == "lifespan":
        await _lifespan(receive, send)
    elif kind == "websocket":
        await send({"type": "websocket.close", "code": 1000})


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
