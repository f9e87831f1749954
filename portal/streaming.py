"""Files that are written while they are sent: memory holds a piece at a time, whichever way the server runs."""

import itertools
from collections.abc import AsyncIterator, Iterable, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

TOGETHER = 200  # lines that are sent at once


def download(request: HttpRequest, lines: Iterable[str], *, name: str, content_type: str) -> StreamingHttpResponse:
    """A file of these lines to be saved as `name`."""
    content = _asynchronous(pieces(lines)) if isinstance(request, ASGIRequest) else pieces(lines)
    response = StreamingHttpResponse(content, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "private, no-store"
    return response


def pieces(lines: Iterable[str]) -> Iterator[bytes]:
    source = iter(lines)
    while piece := "".join(itertools.islice(source, TOGETHER)):
        yield piece.encode()


async def _asynchronous(source: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Reads in the request's own thread, where its database connection is."""
    following = sync_to_async(lambda: next(source, b""))
    while piece := await following():
        yield piece
