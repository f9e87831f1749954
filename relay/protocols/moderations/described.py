"""What a client may send to `/v1/moderations`, as JSON Schema. Source: OpenAI API reference."""

from relay.protocols import shapes
from relay.protocols.moderations.request import MOST_INPUTS
from relay.protocols.shapes import KEY, STRING, either, several, structure

_PART = either(
    structure(("type", "text"), type=shapes.only("text"), text=STRING),
    structure(("type", "image_url"), type=shapes.only("image_url"), image_url=structure(("url",), url=STRING)),
)

MODERATION = structure(
    ("input",),
    model=STRING,
    input=either(STRING, several(STRING, least=1, most=MOST_INPUTS), several(_PART, least=1, most=MOST_INPUTS)),
    api_key=KEY,
)
