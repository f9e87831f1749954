"""What a client may send to `/v1/rerank`, as JSON Schema. Sources: Jina AI, "Reranker API"; Cohere, "Rerank API"."""

from relay.protocols.rerank.request import MOST_DOCUMENTS
from relay.protocols.shapes import BOOLEAN, COUNT, KEY, STRING, either, several, structure

RERANK = structure(
    ("query", "documents"),
    model=STRING,
    query={**STRING, "minLength": 1},
    documents=several(either(STRING, structure(("text",), text=STRING)), least=1, most=MOST_DOCUMENTS),
    top_n=COUNT,
    return_documents=BOOLEAN,
    api_key=KEY,
)
