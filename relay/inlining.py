"""Pictures and files that a client named by URL, put into the request for an upstream that fetches none itself."""

import asyncio
import base64

from relay.channels import egress
from relay.errors import Cause, RelayError
from relay.protocols import documents, pictures
from relay.protocols.canonical import Media, Part, Request, ToolResult
from relay.protocols.capabilities import Capabilities

MOST = 16  # URLs in one request
MOST_BYTES = 48 * 1024 * 1024  # of all together


async def inline(request: Request, caps: Capabilities) -> None:
    """Replaces the URLs in the request's parts, which stay so for a further attempt. Raises RelayError (400)."""
    wanted = [part for part in _media(request) if part.url.startswith(("http://", "https://")) and _needs(part, caps)]
    if len(wanted) > MOST:
        raise RelayError(Cause.INVALID_PARAMETER, f"At most {MOST} URLs can be fetched.", param="messages")
    fetched = await asyncio.gather(*(egress.fetch(part.url) for part in wanted))
    if sum(len(found.data) for found in fetched) > MOST_BYTES:
        message = f"The files at these URLs are larger than {MOST_BYTES >> 20} MB together."
        raise RelayError(Cause.INVALID_PARAMETER, message, param="messages")
    for part, found in zip(wanted, fetched, strict=True):
        part.mime = _kind(part, found)
        part.data, part.url = base64.b64encode(found.data).decode(), ""


def _media(request: Request) -> list[Media]:
    parts: list[Part] = [part for message in request.messages for part in message.parts]
    inner = [found for part in parts if isinstance(part, ToolResult) for found in part.parts]
    return [part for part in (*parts, *inner) if isinstance(part, Media)]


def _needs(part: Media, caps: Capabilities) -> bool:
    match part.kind:
        case "image":
            return not caps.picture_urls
        case "document":
            return not caps.document_urls or not (caps.text_urls or _is_pdf(part))
    return True


def _is_pdf(part: Media) -> bool:
    """As far as is known before it is fetched."""
    return documents.is_pdf(part.mime or documents.kind_of(part.name) or documents.kind_of(part.url))


def _kind(part: Media, found: egress.Fetched) -> str:
    """What it is by its first bytes, for servers and clients mislabel pictures and vendors refuse these."""
    if part.kind == "image":
        sniffed = pictures.kind_of(found.data[:16])
        if sniffed is None:
            raise RelayError(Cause.INVALID_PARAMETER, "A URL gave no picture that is known.", param="messages")
        return sniffed
    if part.kind == "document" and found.data.startswith(b"%PDF"):
        return documents.PDF
    return part.mime or found.mime or "application/octet-stream"
