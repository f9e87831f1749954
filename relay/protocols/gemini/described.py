"""What a client may send to Gemini's methods of a model, as JSON Schema. Source: Gemini API reference. Google's parser,
and the gateway, take the names in snake_case too."""

from relay.protocols import shapes
from relay.protocols.gemini.embedding import MOST_REQUESTS
from relay.protocols.gemini.request import MOST_CANDIDATES
from relay.protocols.shapes import BOOLEAN, COUNT, INTEGER, KEY, NUMBER, OBJECT, STRING, either, several, structure

_PART = either(
    structure(("text",), text=STRING, thought=BOOLEAN, thoughtSignature=STRING),
    structure(("inlineData",), inlineData=structure(("mimeType", "data"), mimeType=STRING, data=STRING)),
    structure(("fileData",), fileData=structure(("fileUri",), mimeType=STRING, fileUri=STRING)),
    structure(("functionCall",), functionCall=structure(("name",), id=STRING, name=STRING, args=OBJECT)),
    structure(
        ("functionResponse",),
        functionResponse=structure(("name", "response"), id=STRING, name=STRING, response=OBJECT),
    ),
)
_CONTENT = structure(("parts",), role=shapes.words("user", "model"), parts=several(_PART, least=1))
_CONTENTS = several(_CONTENT, least=1)
_TOOL = structure(
    ("functionDeclarations",),
    functionDeclarations=several(
        structure(("name",), name=STRING, description=STRING, parameters=OBJECT, parametersJsonSchema=OBJECT)
    ),
)
_CONFIG = structure(
    (),
    maxOutputTokens=COUNT,
    candidateCount={**INTEGER, "minimum": 1, "maximum": MOST_CANDIDATES},
    temperature=NUMBER,
    topP=NUMBER,
    topK=NUMBER,
    seed=INTEGER,
    presencePenalty=NUMBER,
    frequencyPenalty=NUMBER,
    stopSequences=several(STRING),
    responseMimeType=shapes.words("text/plain", "application/json"),
    responseSchema=OBJECT,
    responseJsonSchema=OBJECT,
    thinkingConfig=structure((), includeThoughts=BOOLEAN, thinkingBudget=INTEGER, thinkingLevel=STRING),
)
_CALLING = structure((), mode=shapes.words("AUTO", "ANY", "NONE", "VALIDATED"), allowedFunctionNames=several(STRING))

GENERATE = structure(
    ("contents",),
    contents=_CONTENTS,
    systemInstruction=_CONTENT,
    tools=several(_TOOL),
    toolConfig=structure((), functionCallingConfig=_CALLING),
    generationConfig=_CONFIG,
    safetySettings=several(OBJECT),
    api_key=KEY,
)
COUNT_TOKENS = either(
    structure(("contents",), contents=_CONTENTS, api_key=KEY),
    structure(("generateContentRequest",), generateContentRequest=GENERATE),
)
EMBED = structure(
    ("content",),
    content=structure(("parts",), parts=several(structure(("text",), text=STRING), least=1)),
    taskType=STRING,
    title=STRING,
    outputDimensionality=COUNT,
    api_key=KEY,
)
EMBED_BATCH = structure(("requests",), requests=several(EMBED, least=1, most=MOST_REQUESTS), api_key=KEY)
