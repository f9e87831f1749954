"""Rerank requests, as Jina and Cohere take them: a query and documents, which are texts or objects with one.

Sources: Jina AI, "Reranker API"; Cohere, "Rerank API". A reranker reads the query beside each document, and that is
what its tokens are counted by.
"""

from typing import ClassVar

import msgspec

from relay.counting.families import Family
from relay.counting.prompt import Prompt
from relay.errors import RelayError
from relay.protocols import once, raws

MOST_DOCUMENTS = 10_000  # Cohere's
_MOST_STRINGS = 64 * MOST_DOCUMENTS  # an object may have other fields than its text


class Document(msgspec.Struct):
    text: str


class _Wanted(msgspec.Struct):
    """What is read of a request. Raw: known to exist, not looked into."""

    model: str | None = None
    query: str | None = None
    documents: msgspec.Raw = raws.ABSENT
    top_n: int | None = None
    return_documents: bool | None = None
    api_key: str | None = None


class RerankAsked(once.OnceAsked):
    """`documents` are the texts to be ordered by what they say to the `query`."""

    __slots__ = ("documents", "query")

    kind: ClassVar[str] = "rerank"
    READ = _Wanted.__struct_fields__

    def __init__(self, body: bytes, wanted: _Wanted, fields: once.Fields, documents: list[str]) -> None:
        # What the model reads, of which the query is there as often as there are documents.
        size = len(memoryview(fields["query"])) * len(documents) + len(memoryview(wanted.documents))
        super().__init__(body, wanted.model or "", fields, text_bytes=size)
        self.query = wanted.query or ""
        self.documents = documents

    def _most(self, family: Family) -> int:
        around = 0 if family.exact else family.framing + once.AROUND * len(self.documents)
        return len(self.body) + self.text_bytes + around

    def prompt(self) -> Prompt:
        return Prompt(texts=[*([self.query] * len(self.documents)), *self.documents], framing=0)


_decoder = msgspec.json.Decoder(_Wanted)
_documents_decoder = msgspec.json.Decoder(list[str | Document])


def read(body: bytes) -> RerankAsked:
    """Raises RelayError: invalid_json or invalid_parameter, with the field's name."""
    wanted, fields = once.read(body, _decoder)
    if not wanted.query:
        raise once.refused("query", "`query` is missing: the text that the documents are compared with.")
    once.positive(wanted, "top_n")
    return RerankAsked(body, wanted, fields, _documents(wanted.documents))


def _documents(raw: msgspec.Raw) -> list[str]:
    if not raws.is_given(raw):
        raise once.refused("documents", "`documents` is missing: a list of texts, or of objects with a `text`.")
    if once.has_more_strings(raw, _MOST_STRINGS):
        raise _too_many()
    try:
        found = _documents_decoder.decode(raw)
    except (msgspec.ValidationError, RecursionError) as error:
        raise once.refused("documents", "`documents` must be a list of texts, or of objects with a `text`.") from error
    if not found:
        raise once.refused("documents", "`documents` is an empty list.")
    if len(found) > MOST_DOCUMENTS:
        raise _too_many()
    return [document if isinstance(document, str) else document.text for document in found]


def _too_many() -> RelayError:
    return once.refused("documents", f"`documents` may have at most {MOST_DOCUMENTS} entries.")
