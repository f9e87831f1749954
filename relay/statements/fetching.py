"""Carries out an adapter's script: gets what it asks for, by the rules that calls to the channel go by.

A private address may be asked only where the operator's file lets the channel have it, and only at the channel's own
origin. Redirects are not followed. No text here names a credential.
"""

import asyncio
import hashlib
import json
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

import msgspec
from django.utils.translation import gettext_noop as _

from relay import vault
from relay.channels import upstream
from relay.channels.dress import Dress
from relay.channels.presets import Quirks
from relay.channels.routing import Candidate, Timeouts
from relay.errors import RelayError
from relay.models import Channel
from relay.statement_models import StatementSource
from relay.statements.values import Adapter, Bill, Get, Script, Unreadable

WITHIN = 30.0  # seconds for one answer
_AS_IT_IS = Quirks(unversioned=True)


class Fetched(msgspec.Struct, frozen=True):
    """`digest` is the SHA-256 of all that was sent, in its order."""

    bill: Bill
    digest: str


def fetch(source: StatementSource, adapter: Adapter, script: Script) -> Fetched:
    """Waits for the provider. Raises Unreadable with what went wrong."""
    candidate = _candidate(source, adapter, _opened(source))
    digest = hashlib.sha256()
    answer: Any = None
    try:
        while True:
            wanted = script.send(answer)
            content = _get(candidate, wanted)
            digest.update(content)
            answer = _parsed(content)
    except StopIteration as done:
        return Fetched(done.value, digest.hexdigest())


def may_be_private(channel: Channel, base_url: str) -> bool:
    """Whether a private address may be asked: the channel's own origin, where the operator's file allowed it."""
    return bool(channel.private) and _origin(channel.base_url) == _origin(base_url)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port


def _opened(source: StatementSource) -> str:
    try:
        return vault.decrypt(bytes(source.secret), row=source.uid)
    except vault.Undecryptable as error:
        raise Unreadable(_("The credential cannot be decrypted.")) from error


def _candidate(source: StatementSource, adapter: Adapter, secret: str) -> Candidate:
    """The provider as `upstream` knows one. The credential travels in the adapter's headers."""
    worn = Dress(
        auth="none",
        quirks=_AS_IT_IS,
        headers=tuple((name.lower(), value) for name, value in adapter.headers(secret).items()),
        proxy=source.channel.proxy,
    )
    return Candidate(
        channel=source.channel.name,
        protocol="openai",
        base_url=source.base_url,
        model="",
        priority=0,
        weight=1,
        on_hangup="cancel",
        private=may_be_private(source.channel, source.base_url),
        timeouts=Timeouts(),
        credentials=(),
        dress=worn,
    )


def _get(candidate: Candidate, wanted: Get) -> bytes:
    path = f"{wanted.path}?{urlencode(wanted.query)}" if wanted.query else wanted.path
    try:
        status, content = asyncio.run(upstream.get(candidate, None, path, within=WITHIN))
    except RelayError as error:
        raise Unreadable(error.message.replace("%", "%%")) from error
    if status in (401, 403):
        raise Unreadable(_("The provider refuses the credential (status %(status)s)."), status=status)
    if status == 429:
        raise Unreadable(_("The provider's rate limit is reached; it is asked again later."))
    if status != 200:
        raise Unreadable(_("The provider's bill cannot be read (status %(status)s)."), status=status)
    if len(content) >= upstream.LONGEST_LIST:
        raise Unreadable(_("The provider's answer is too large."))
    return content


def _parsed(content: bytes) -> Any:
    """Numbers with a fraction are decimals: none of it ever is a float."""
    try:
        return json.loads(content, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unreadable(_("The provider's answer is no JSON.")) from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
