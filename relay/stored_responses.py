"""Responses that are kept for their team, so that a call can go on from an earlier one (`previous_response_id`).

Whoever sees an answer whole finds it again: its row is written in the transaction of the call's settlement. A row has
the call's own input and the answer, encrypted, and names the response before it; a conversation is read back along
these names and sent as one input, so that any channel and any protocol can go on with it. Instructions are not carried
over, as OpenAI has it. What another team keeps is not there.

A row is forgotten STORED_RESPONSE_DAYS after it was written, but for the sake of a conversation not before those that
go on from it.
"""

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from billing import connections
from billing.operations import Row, Table
from keys.services import Principal
from relay import vault
from relay.errors import Cause, RelayError
from relay.models import StoredItem, StoredResponse
from relay.protocols.codec import Asked
from relay.protocols.responses import kept
from relay.protocols.responses.request import ResponsesRequest
from relay.records import Call

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

MOST_TURNS = 1000  # of a conversation that is read back
_DEAR = 64 * 1024  # bytes; sealing more than this would keep other calls waiting

STORED = Table(
    "relay_storedresponse",
    (
        ("id", "uuid"),
        ("team_id", "bigint"),
        ("key_id", "bigint"),
        ("model", "text"),
        ("previous", "uuid"),
        ("sealed", "text"),
        ("created_at", "timestamptz"),
        ("expires_at", "timestamptz"),
    ),
)
ITEM = Table("relay_storeditem", (("response_id", "uuid"), ("team_id", "bigint"), ("name", "text")))
LONGEST_NAME = StoredItem._meta.get_field("name").max_length or 0


class Kept(msgspec.Struct, array_like=True):
    """A response with the items that its call brought."""

    items: list[bytes]
    answer: bytes

    @property
    def input(self) -> list[msgspec.Raw]:
        return [msgspec.Raw(item) for item in self.items]

    @property
    def output(self) -> list[msgspec.Raw]:
        """The items that the answer put out; what a provider wrote among them that is no object is left out."""
        found = _output_decoder.decode(self.answer).output or ()
        return [item for item in found if bytes(memoryview(item)[:1]) == b"{"]

    @property
    def id(self) -> uuid.UUID | None:
        return kept.parse_id(_output_decoder.decode(self.answer).id)


class _Output(msgspec.Struct):
    id: str
    output: list[msgspec.Raw] | None = None


_decoder = msgspec.msgpack.Decoder(Kept)
_output_decoder = msgspec.json.Decoder(_Output)


# ---- writing --------------------------------------------------------------------------------------------------------


async def rows(call: Call, asked: Asked) -> list[Row]:
    """What keeps this call's answer, to be written with its settlement; nothing for one that is not to be kept, or that
    its client never got."""
    if not isinstance(asked, ResponsesRequest) or not asked.store or asked.answered is None:
        return []
    size = sum(memoryview(item).nbytes for item in asked.items) + len(asked.answered)
    if size > 2 * settings.MAX_STORED_ANSWER:
        log.warning("response.too_large_to_keep", call=str(call.id), bytes=size)
        return []
    assert call.principal
    content = Kept([bytes(item) for item in asked.items], asked.answered)
    sealed = await asyncio.to_thread(_seal, asked.answer, content) if size > _DEAR else _seal(asked.answer, content)
    now = dt.datetime.now(dt.UTC)
    expires = now + dt.timedelta(days=settings.STORED_RESPONSE_DAYS)
    previous = kept.parse_id(asked.previous)
    principal = call.principal
    response = (asked.answer, principal.team, principal.key, call.model, previous, sealed, now, expires)
    names = [name for item in content.output if (name := _own_name(item, asked.answer)) is not None]
    return [Row(STORED, response), *(Row(ITEM, (asked.answer, principal.team, name)) for name in names)]


def _own_name(item: msgspec.Raw, answer: uuid.UUID) -> str | None:
    """The id that the item's provider gave it; None where it is ours, or none."""
    name = kept.id_of(item)
    if not name or len(name) > LONGEST_NAME or "\0" in name or kept.parse_id(name) == answer:
        return None
    return name


def _seal(row: uuid.UUID, content: Kept) -> str:
    return vault.seal_text(msgspec.msgpack.encode(content), row=row)


def _unseal(row: uuid.UUID, sealed: str) -> Kept:
    """Raises RelayError for one whose key is no longer among ENCRYPTION_KEYS: nobody can read it any more."""
    try:
        content = vault.unseal_text(sealed, row=row)
    except vault.Undecryptable as error:
        message = f"The response {kept.answer_id(row)!r} cannot be read any more."
        raise RelayError(Cause.UNKNOWN_RESPONSE, message) from error
    return _decoder.decode(content)


# ---- going on -------------------------------------------------------------------------------------------------------


async def prepared(asked: ResponsesRequest, principal: Principal) -> ResponsesRequest:
    """The request as it can go to any upstream: with the turns before it, and with the items that it refers to. One
    whose input is too large is not kept, and says so. Raises RelayError for what is not there."""
    if sum(memoryview(item).nbytes for item in asked.items) > settings.MAX_STORED_ANSWER:
        asked.store = False
    if asked.waits or kept.has_references(asked.items):
        return await _read(_completed, asked, principal.team)
    return asked


def _completed(asked: ResponsesRequest, team: int) -> ResponsesRequest:
    turns = _turns(asked.previous, team) if asked.waits else []
    items = _with_referred(asked.items, team)
    if not turns and items == asked.items and not asked.waits:
        return asked
    if sum(memoryview(item).nbytes for item in (*turns, *items)) > settings.MAX_BODY_JSON:
        raise RelayError(Cause.TOO_LARGE, "The conversation has become longer than the gateway accepts.")
    return asked.after(turns, items)


def _turns(previous: str, team: int) -> list[msgspec.Raw]:
    """The conversation up to and with this response, as input."""
    found: list[msgspec.Raw] = []
    for turn in _conversation(previous, team, param="previous_response_id"):
        found += [*turn.input, *kept.history(turn.output, answer=turn.id)]
    return found


def _conversation(text: str, team: int, *, param: str | None = None) -> list[Kept]:
    """From its beginning up to and with the response of this id."""
    last = _find(text, team, param=param)
    rows = _lineage(last, team)
    if not rows or rows[0].previous is not None:
        message = f"An earlier response of the conversation that {text[:80]!r} belongs to is no longer there."
        raise RelayError(Cause.UNKNOWN_RESPONSE, message, param=param)
    return [_unseal(row.pk, row.sealed) for row in rows]


_LINEAGE = """
WITH RECURSIVE line(id, previous, depth) AS (
    SELECT id, previous, 0 FROM relay_storedresponse WHERE id = %s AND team_id = %s
    UNION ALL
    SELECT earlier.id, earlier.previous, line.depth + 1
    FROM relay_storedresponse earlier JOIN line ON earlier.id = line.previous
    WHERE earlier.team_id = %s AND line.depth < %s
)
SELECT response.* FROM line JOIN relay_storedresponse response ON response.id = line.id ORDER BY line.depth DESC
"""


def _lineage(last: StoredResponse, team: int) -> list[StoredResponse]:
    """The rows of a conversation, the first one first; none where it has just been deleted. They are read by one
    statement: of what is deleted meanwhile either all is seen or a gap, and no conversation goes on with a turn less.
    """
    if last.previous is None:
        return [last]
    key: Any = last.pk if connection.features.has_native_uuid_field else last.pk.hex
    return list(StoredResponse.objects.raw(_LINEAGE, [key, team, team, MOST_TURNS]))


def _with_referred(items: Sequence[msgspec.Raw], team: int) -> list[msgspec.Raw]:
    """Items of the team's earlier answers in the place of the references to them. Raises RelayError (404) for any
    other: a provider would look it up among all that the gateway's customers were answered under its credential."""
    names = [kept.referred(item) for item in items]
    referred = _referred({name for name in names if name is not None}, team)
    given = [item if name is None else referred[name] for item, name in zip(items, names, strict=True)]
    return [item for item in given if item is not None]


def _referred(names: set[str], team: int) -> dict[str, msgspec.Raw | None]:
    """What goes into a call for the items of these ids, in two queries however many there are."""
    if not names:
        return {}
    in_force = StoredResponse.objects.filter(team_id=team, expires_at__gt=timezone.now())
    ids = {name: answer for name in names if (answer := kept.parse_id(name)) is not None}
    ids |= _named_elsewhere(names, in_force, team)
    turns = {pk: _by_id(_unseal(pk, row.sealed)) for pk, row in in_force.in_bulk(set(ids.values())).items()}
    if (lost := next((name for name in sorted(names) if name not in turns.get(ids.get(name), {})), None)) is not None:
        raise _no_item(lost)
    return {name: turns[answer][name] for name, answer in ids.items()}


def _named_elsewhere(names: set[str], in_force: QuerySet[StoredResponse], team: int) -> dict[str, uuid.UUID]:
    """Whose items a provider has named so: the newest of those that it gave one id."""
    written = [name for name in names if "\0" not in name]
    found = StoredItem.objects.filter(team_id=team, name__in=written, response__in=in_force).order_by("pk")
    return dict(found.values_list("name", "response_id"))


def _by_id(turn: Kept) -> dict[str | None, msgspec.Raw | None]:
    return {kept.id_of(item): found for item, found in kept.beside(turn.output, answer=turn.id)}


def _no_item(name: str) -> RelayError:
    message = f"There is no item {name[:80]!r} among your team's stored responses; send the item itself."
    return RelayError(Cause.UNKNOWN_RESPONSE, message, param="input")


def _find(text: str, team: int, *, param: str | None = None) -> StoredResponse:
    """Raises RelayError (404) for what is not there, or is another team's."""
    answer = kept.parse_id(text) if text.startswith("resp_") else None
    row = (
        StoredResponse.objects.filter(pk=answer, team_id=team, expires_at__gt=timezone.now()).first()
        if answer is not None
        else None
    )
    if row is None:
        raise RelayError(Cause.UNKNOWN_RESPONSE, f"There is no response {text[:80]!r}.", param=param)
    return row


# ---- what clients may look at ---------------------------------------------------------------------------------------


async def retrieved(text: str, principal: Principal) -> bytes:
    """The response object as its client got it. Raises RelayError."""
    return await _read(_answer, text, principal.team)


def _answer(text: str, team: int) -> bytes:
    row = _find(text, team)
    return _unseal(row.pk, row.sealed).answer


async def deleted(text: str, principal: Principal) -> None:
    """Forgets a response with its content. Conversations that went on from it cannot be gone on with."""
    await _read(_delete, text, principal.team)


def _delete(text: str, team: int) -> None:
    _find(text, team).delete()


async def input_items(text: str, principal: Principal) -> list[dict[str, Any]]:
    """All that the response was an answer to, earlier turns included, in their order."""
    return await _read(_listed, text, principal.team)


def _listed(text: str, team: int) -> list[dict[str, Any]]:
    *before, last = _conversation(text, team)
    items = [item for turn in before for item in (*turn.input, *turn.output)] + last.input
    return kept.listed(items, text.removeprefix("resp_"))


async def _read(function: Callable[..., _T], *arguments: Any) -> _T:
    """In a thread, which opens what was sealed as well."""
    try:
        return await connections.read(function, *arguments, within=connections.READ_WITHIN)
    except connections.DATABASE_ERRORS as error:
        raise RelayError(Cause.UNAVAILABLE, "Stored responses cannot be looked up now.", retry_after=1) from error


# ---- forgetting -----------------------------------------------------------------------------------------------------


def forget_old() -> int:
    """Deletes what has expired and what nothing goes on from: how many."""
    later = StoredResponse.objects.filter(previous=OuterRef("pk"))
    gone = 0
    for _ in range(MOST_TURNS):  # a conversation goes from its end
        expired = StoredResponse.objects.filter(~Exists(later), expires_at__lt=timezone.now())
        ids = list(expired.values_list("pk", flat=True)[:1000])
        if not ids:
            break
        StoredResponse.objects.filter(pk__in=ids).delete()  # with the names of their items
        gone += len(ids)
    return gone
