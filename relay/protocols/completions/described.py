"""What a client may send to `/v1/completions`, as JSON Schema. Source: OpenAI API reference (legacy)."""

from relay.protocols import shapes
from relay.protocols.completions.request import MOST_ANSWERS, MOST_PROMPTS
from relay.protocols.shapes import BOOLEAN, INTEGER, KEY, NUMBER, STRING, either, several, structure

_NUMBER_OF = {**INTEGER, "minimum": 1, "maximum": MOST_ANSWERS}
_TOKENS = several({**INTEGER, "minimum": 0}, least=1)

COMPLETION = structure(
    (),
    model=STRING,
    prompt=either(
        STRING,
        several(STRING, least=1, most=MOST_PROMPTS),
        _TOKENS,
        several(_TOKENS, least=1, most=MOST_PROMPTS),
    ),
    suffix=shapes.or_null(STRING),
    echo=BOOLEAN,
    max_tokens={**INTEGER, "minimum": 0, "maximum": shapes.MOST_TOKENS},
    n=_NUMBER_OF,
    best_of=_NUMBER_OF,
    stream=BOOLEAN,
    stream_options=structure((), include_usage=BOOLEAN),
    temperature=NUMBER,
    top_p=NUMBER,
    stop=either(STRING, several(STRING)),
    seed=INTEGER,
    api_key=KEY,
)
