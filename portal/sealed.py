"""All that is stored encrypted (`relay.vault`), and its encryption anew with the first of ENCRYPTION_KEYS.

A row is one statement, which finds the value that was read or writes nothing: a server beside it may write another one
at any moment. What was done stays done, so a run that was broken off is begun again.
"""

import base64
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from django.db import models

from portal.models import Webhook
from relay import vault
from relay.models import Credential, StoredAnswer, StoredResponse
from relay.statement_models import StatementSource

_AT_ONCE = 500  # keys of rows; values are read one by one, because an answer may have megabytes


class Column(msgspec.Struct, frozen=True):
    """`bound` is the column that each value is bound to. A text is base64 of the sealed bytes."""

    name: str
    model: type[models.Model]
    field: str
    bound: str

    @property
    def is_text(self) -> bool:
        return isinstance(self.model._meta.get_field(self.field), models.TextField)


COLUMNS = (
    Column("credentials of providers", Credential, "secret", "uid"),
    Column("credentials for their bills", StatementSource, "secret", "uid"),
    Column("secrets of webhooks", Webhook, "secret", "uid"),
    Column("stored responses", StoredResponse, "sealed", "id"),
    Column("answers kept for an Idempotency-Key", StoredAnswer, "sealed", "hold_id"),
)


class Done(msgspec.Struct):
    """`lost` are values that no key opens; they stay as they are."""

    name: str
    anew: int = 0
    lost: int = 0


def encrypt_anew(columns: tuple[Column, ...] = COLUMNS) -> Iterator[Done]:
    """Each column in turn, when it is done. Afterwards no value needs another key than the first, but for what is lost
    and what a process writes that does not have that key in front."""
    for column in columns:
        done = Done(column.name)
        for key in _keys(column.model):
            _row(column, key, done)
        yield done


def _keys(model: type[models.Model]) -> Iterator[Any]:
    rows = model._default_manager.order_by("pk").values_list("pk", flat=True)
    found = list(rows[:_AT_ONCE])
    while found:
        yield from found
        found = list(rows.filter(pk__gt=found[-1])[:_AT_ONCE])


def _row(column: Column, key: Any, done: Done) -> None:
    """Looks again where somebody else has written the value, or deleted the row, in between."""
    rows = column.model._default_manager.filter(pk=key)
    while (row := rows.values_list(column.field, column.bound).first()) is not None:
        stored, bound = row
        try:
            new = _sealed_anew(column, stored, bound)
        except vault.Undecryptable:
            done.lost += 1
            return
        if new is None:
            return
        if rows.filter(**{column.field: stored}).update(**{column.field: new}):
            done.anew += 1
            return


def _sealed_anew(column: Column, stored: Any, bound: uuid.UUID) -> str | bytes | None:
    """None of what the first key has sealed. Raises Undecryptable."""
    value = base64.b64decode(stored) if column.is_text else bytes(stored)
    if vault.is_by_first(value):
        return None
    sealed = vault.seal(vault.unseal(value, row=bound), row=bound)
    return base64.b64encode(sealed).decode() if column.is_text else sealed
