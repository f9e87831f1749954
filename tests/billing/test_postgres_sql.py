"""How rows get into PostgreSQL: one as parameters, few as JSON, many as arrays, and found by their keys each way."""

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import postgres, postgres_sql
from billing.books import HOLD, TRANSFER, Statement, Verb
from billing.postgres_sql import MANY, Columns
from tests.billing.conftest import Ledger
from tests.kit.services import services

COLUMNS: Columns = (
    ("id", "uuid"),
    ("key", "text"),
    ("count", "bigint"),
    ("small", "smallint"),
    ("share", "double precision"),
    ("flag", "boolean"),
    ("facts", "jsonb"),
    ("time", "timestamptz"),
)
FACTS = [name for name, _ in COLUMNS].index("facts")
BIG = 2**63 - 1
# What a text column can hold. Python's own texts have more: NUL, and halves of characters.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-BIG, BIG) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
moments = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1), timezones=st.just(dt.UTC))
rows = st.tuples(
    st.uuids(),
    st.none() | texts | st.sampled_from(["", "null", "NULL", "{}", '"', "\\", "\\n", "\n", "a,b", " a ", "\x7f\x01"]),
    st.none() | st.integers(-BIG, BIG),
    st.integers(-(2**15), 2**15 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none() | st.dictionaries(texts, values, max_size=3),
    st.none() | moments,
)


@pytest.fixture(scope="module")
def server() -> Iterator["psycopg.Connection[Any]"]:
    if not services.probe("postgres"):
        pytest.skip(services.missing["postgres"])
    with psycopg.connect(services.postgres.url("postgres")) as connection:
        yield connection


@settings(deadline=None)
@given(given_rows=st.lists(rows, min_size=1, max_size=40))
def test_rows_arrive_as_they_were_sent_be_they_one_few_or_many(
    server: "psycopg.Connection[Any]", given_rows: list[tuple[Any, ...]]
) -> None:
    one = postgres_sql.row_of(COLUMNS), postgres_sql.parameters(COLUMNS, given_rows[0])
    few = postgres_sql.objects_of(COLUMNS), [postgres_sql.objects(postgres_sql.shape_of(COLUMNS), given_rows)]
    many = postgres_sql.arrays_of(COLUMNS), postgres_sql.arrays(COLUMNS, given_rows)
    for expected, (relation, parameters) in ((given_rows[:1], one), (given_rows, few), (given_rows, many)):
        # JSON's null is not NULL, though both are read as None.
        query = f"SELECT v.*, v.facts IS NULL FROM {relation}"
        result = server.pgconn.exec_params(query.encode(), parameters)
        found = psycopg.adapt.Transformer(server)
        found.set_pgresult(result)
        assert result.ntuples == len(expected), result.error_message
        assert found.load_rows(0, result.ntuples, tuple) == [(*row, row[FACTS] is None) for row in expected]


def test_a_text_is_refused_rather_than_cut_at_a_nul() -> None:
    with pytest.raises(psycopg.DataError):
        postgres_sql.parameters((("key", "text"),), ("a\0b",))


def statements() -> Iterator[Statement]:
    for what in (*Verb, HOLD, TRANSFER):
        columns = postgres_sql._COLUMNS.get(what) if isinstance(what, Verb) else what.columns
        row = 1 if columns is None else tuple(EXAMPLES[kind] for _, kind in columns)
        for count in (1, 2, MANY):
            yield Statement(what, [row] * count)


EXAMPLES: dict[str, Any] = {
    "uuid": uuid.UUID(int=0),
    "text": "",
    "int": 0,
    "bigint": 0,
    "float8": 0.0,
    "jsonb": {},
    "timestamptz": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
}


@pytest.mark.parametrize("books", ["postgres"], indirect=True)
def test_every_statement_finds_its_rows_by_key_whatever_the_statistics_are(book: Ledger) -> None:
    """A plan is made when a process first needs it, perhaps over empty tables, and kept."""
    url = services.postgres.url(connection.settings_dict["NAME"])
    with psycopg.connect(url, options=postgres.OPTIONS) as raw:
        for number, statement in enumerate(statements()):
            text, given = postgres_sql.query_of(statement)
            raw.execute(f"PREPARE s{number} AS {text}".encode())
            explained = raw.execute(f"EXPLAIN EXECUTE s{number} ({', '.join(['NULL'] * len(given))})".encode())
            plan = "\n".join(line for (line,) in explained)
            assert "Seq Scan on billing" not in plan, plan
            assert "Bitmap" not in plan, plan
