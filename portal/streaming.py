"""Files that are written while they are sent: memory holds a piece at a time, whichever way the server runs."""

import itertools
from collections.abc import AsyncIterator, Iterable, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

TOGETHER = 200  # lines that are sent at once


def download(
    request: HttpRequest, lines: Iterable[str], *, name: str, content_type: str, together: int = TOGETHER
) -> StreamingHttpResponse:
    """A file of these lines, or larger parts, to be saved as `name`; so many are sent at once."""
    found = pieces(lines, together)
    content = _asynchronous(found) if isinstance(request, ASGIRequest) else found
    response = StreamingHttpResponse(content, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "private, no-store"
    return response


def pieces(lines: Iterable[str], together: int = TOGETHER) -> Iterator[bytes]:
    """Parts that are empty are none."""
    source = filter(None, lines)
    while piece := "".join(itertools.islice(source, together)):
        yield piece.encode()


async def _asynchronous(source: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Reads in the request's own thread, where its database connection is."""
    following = sync_to_async(lambda: next(source, b""))
    while piece := await following():
        yield piece
