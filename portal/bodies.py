"""Bodies that are sent to the portal have an end, in bytes and in time.

Django reads a body into a file before it asks who sends it or what takes it, for as long as something comes.
"""

import asyncio

from django.conf import settings

from relay.http import Message, Receive


class Bounded:
    """Reads for Django. A body that is longer than MAX_BODY_JSON, or has not arrived within BODY_TIMEOUT, ends as if
    its client had gone, which lets go of what was read; `refusal` is then the status to answer with, else 0."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = settings.MAX_BODY_JSON
        self._ends = asyncio.get_running_loop().time() + settings.BODY_TIMEOUT
        self._whole = False
        self.refusal = 0

    async def receive(self) -> Message:
        if self._whole:  # what comes now is only that the client has gone
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            return self._refused(408)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return self._refused(413)
        self._whole = not message.get("more_body", False)
        return message

    def _refused(self, status: int) -> Message:
        self.refusal = status
        return {"type": "http.disconnect"}
