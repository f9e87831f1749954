"""What a client may send to `/v1/embeddings`, as JSON Schema. Source: OpenAI API reference."""

from relay.protocols import shapes
from relay.protocols.embeddings.request import MOST_INPUTS
from relay.protocols.shapes import COUNT, INTEGER, KEY, STRING, either, several, structure

_TOKENS = several({**INTEGER, "minimum": 0}, least=1)

EMBEDDINGS = structure(
    ("input",),
    model=STRING,
    input=either(
        STRING, several(STRING, least=1, most=MOST_INPUTS), _TOKENS, several(_TOKENS, least=1, most=MOST_INPUTS)
    ),
    encoding_format=shapes.words("float", "base64"),
    dimensions=COUNT,
    user=STRING,
    api_key=KEY,
)
