"""The providers that people use, a row each: where they are, how they are spoken to, what they do differently. Pure.

A new provider is one row in `TABLE`; a new kind of difference is a field of `Quirks` and a line in `quirks.py`. What a
row does not say is as the protocol's own vendor has it. Sources: the providers' API references as of 2026-11.
"""

from collections.abc import Mapping

import msgspec

PROTOCOLS = ("openai", "responses", "anthropic", "gemini")
# How a credential travels: the header or the query's parameter, and what stands before it there.
AUTH: dict[str, tuple[str, str]] = {
    "bearer": ("Authorization", "Bearer "),
    "x-api-key": ("x-api-key", ""),
    "x-goog-api-key": ("x-goog-api-key", ""),
    "api-key": ("api-key", ""),
    "query-key": ("?key", ""),
    "none": ("", ""),
}
USUAL_AUTH = {"openai": "bearer", "responses": "bearer", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
# The version that a path begins with where a base URL names none, and the headers that each request has.
VERSIONS = {"openai": "v1", "responses": "v1", "anthropic": "v1", "gemini": "v1beta"}
USUAL_HEADERS: dict[str, tuple[tuple[str, str], ...]] = {"anthropic": (("anthropic-version", "2023-06-01"),)}

_EVERY: dict[str, str] = dict.fromkeys(PROTOCOLS, "")
_OPENAI_TWO = ("openai", "responses")


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider does otherwise than its protocol says. Fields are names at the top of a chat's body; `others` has
    what there is to say of the body of another kind of call, by that kind.

    `rename`: it knows a field by another name. `drop`: it refuses these. `only`: it refuses all but these. `ones`:
    refuses these unless they are 1. `message_drop`: refuses these inside a message and its calls. `values`: it has
    another word for a field's value, `roles` for a message's role. `call_ids`: the id of a call has so many letters
    and digits. `path` stands before the protocol's path where the base URL has no version ({model} is the upstream's
    name), `query` behind it. `unversioned`: the base URL needs no version. `lacks`: the kinds of models that it has no
    endpoint for, though its protocol has one.
    """

    rename: tuple[tuple[str, str], ...] = ()
    drop: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    ones: frozenset[str] = frozenset()
    message_drop: frozenset[str] = frozenset()
    values: tuple[tuple[str, str, str], ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    call_ids: int = 0
    path: str = ""
    query: str = ""
    unversioned: bool = False
    lacks: frozenset[str] = frozenset()
    others: tuple[tuple[str, "Quirks"], ...] = ()

    def of(self, kind: str) -> "Quirks":
        """The quirks that concern the body of a call of this kind."""
        return self if kind == "chat" else dict(self.others).get(kind, PLAIN)

    @property
    def edits(self) -> bool:
        """Whether a body may have to be changed at all."""
        fields = self.rename or self.drop or self.only or self.ones or self.values
        return bool(fields or self.message_drop or self.roles or self.call_ids)


PLAIN = Quirks()


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One provider. `base_urls` has, by protocol, its address; "" where the operator has to give one. `quirks_by` has,
    by protocol, what holds instead of `quirks`. `note` is what an operator should know. `probe` is the path, below
    the version, whose answer tells whether a credential is taken; "" where none does. `forbids_by_input`: its 403 may
    speak of a prompt and not of the credential. `unavailable` says why a row cannot be chosen.
    """

    name: str
    label: str
    base_urls: Mapping[str, str]
    auth: str = ""
    quirks: Quirks = PLAIN
    quirks_by: Mapping[str, Quirks] = {}
    headers: tuple[tuple[str, str], ...] = ()
    probe: str = "/models"
    forbids_by_input: bool = False
    note: str = ""
    unavailable: str = ""

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(name for name in PROTOCOLS if name in self.base_urls)

    def auth_for(self, protocol: str) -> str:
        return self.auth or USUAL_AUTH.get(protocol, "bearer")

    def quirks_for(self, protocol: str) -> Quirks:
        return self.quirks_by.get(protocol, self.quirks)


def _same(url: str, *protocols: str) -> dict[str, str]:
    return dict.fromkeys(protocols, url)


_AZURE = Quirks(path="/openai/deployments/{model}", query="api-version=2024-10-21")
_AZURE_RESPONSES = Quirks(path="/openai/v1")  # no deployment has an address for them, nor any dated API but previews
# In which models' answers bear their thoughts and state; clients bring them back to whichever model is next.
THOUGHTS = frozenset(("reasoning_content", "reasoning", "reasoning_details", "extra_content"))
# What else an answer of OpenAI's has, mostly null, and comes back with it.
_ANSWERED = frozenset(("refusal", "annotations", "audio"))
_MISTRAL = Quirks(
    # It answers 422 to any field that it does not know, and reports usage without being asked to. Its own thoughts are
    # part of the content.
    message_drop=THOUGHTS | _ANSWERED,
    # "Tool call id was … but must be a-z, A-Z, 0-9, with a length of 9": 400, whoever made the call (mistral-common,
    # "Tools"). Its own pass as they are.
    call_ids=9,
    rename=(("max_completion_tokens", "max_tokens"), ("seed", "random_seed")),
    values=(("tool_choice", "required", "any"),),
    only=frozenset((
        "model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "metadata",
        "response_format", "tools", "tool_choice", "presence_penalty", "frequency_penalty", "n", "prediction",
        "parallel_tool_calls", "prompt_mode", "reasoning_effort", "guardrails", "safe_prompt", "prompt_cache_key",
    )),
    others=(
        ("embedding", Quirks(
            rename=(("dimensions", "output_dimension"),),
            only=frozenset(("model", "input", "metadata", "output_dimension", "output_dtype", "encoding_format")),
        )),
        ("moderation", Quirks(only=frozenset(("model", "input", "metadata")))),
    ),
)  # fmt: skip
_GROQ = Quirks(
    drop=frozenset(("logprobs", "logit_bias", "top_logprobs")),
    ones=frozenset(("n",)),
    message_drop=THOUGHTS - {"reasoning"} | {"name"},  # its own thoughts come in `reasoning`
)
_OLD_LIMIT = Quirks(rename=(("max_completion_tokens", "max_tokens"),))
# 400 "unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`".
_DEEPSEEK = msgspec.structs.replace(_OLD_LIMIT, roles=(("developer", "system"),))
# 400 "Unknown name "store": Cannot find field.", at its OpenAI-compatible address (litellm#7748, ed-donner/agents#45).
_GOOGLE_AS_OPENAI = Quirks(drop=frozenset(("store", "metadata", "frequency_penalty")))

TABLE: tuple[Preset, ...] = (
    Preset(
        name="custom", label="Custom", base_urls=_EVERY,
        note="Any server of one of the protocols; the credential goes where the protocol's vendor has it.",
    ),
    Preset(name="openai", label="OpenAI", base_urls=_same("https://api.openai.com/v1", *_OPENAI_TWO)),
    Preset(
        name="azure", label="Azure OpenAI", base_urls=_same("", *_OPENAI_TWO), auth="api-key", quirks=_AZURE,
        quirks_by={"responses": _AZURE_RESPONSES}, probe="",
        note="https://NAME.openai.azure.com/openai/v1, or https://NAME.openai.azure.com for deployments by the dated "
        "API (2024-10-21; Responses by /openai/v1 all the same). The upstream's name of a model is its deployment's.",
    ),
    Preset(name="anthropic", label="Anthropic", base_urls={"anthropic": "https://api.anthropic.com"}),
    Preset(
        name="gemini", label="Google Gemini",
        base_urls={
            "gemini": "https://generativelanguage.googleapis.com",
            "openai": "https://generativelanguage.googleapis.com/v1beta/openai",
        },
        quirks_by={"openai": _GOOGLE_AS_OPENAI},
    ),
    Preset(
        name="vertex", label="Google Vertex AI", base_urls={"gemini": ""}, auth="bearer", probe="",
        quirks=Quirks(lacks=frozenset(("embedding",))),
        note="https://REGION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/REGION/publishers/google. The "
        "credential is an OAuth access token, which ends after an hour: making one from a service account is not "
        "built yet, so something outside has to renew it (manage.py apply). Embedding models are asked otherwise there "
        "than in the Gemini API (:predict), which is not built yet either: they cannot be called.",
    ),
    Preset(
        name="bedrock", label="AWS Bedrock", base_urls={"anthropic": ""}, probe="",
        unavailable="Requests to Bedrock have to be signed (SigV4), which is not built yet.",
    ),
    Preset(
        name="deepseek", label="DeepSeek", quirks=_DEEPSEEK,
        base_urls={"openai": "https://api.deepseek.com/v1", "anthropic": "https://api.deepseek.com/anthropic"},
    ),
    Preset(
        name="dashscope", label="Qwen (DashScope)",
        quirks=msgspec.structs.replace(_OLD_LIMIT, lacks=frozenset(("rerank",))),
        base_urls=_same("https://dashscope.aliyuncs.com/compatible-mode/v1", "openai"),
        note="Outside China: https://dashscope-intl.aliyuncs.com/compatible-mode/v1. Its rerankers are at another "
        "address (/compatible-api/v1/reranks), which is not built yet: they cannot be called.",
    ),
    Preset(
        name="ark", label="Doubao (Volcengine Ark)", probe="",
        base_urls=_same("https://ark.cn-beijing.volces.com/api/v3", *_OPENAI_TWO),
        note="The upstream's name of a model is its own or that of an endpoint (ep-…).",
    ),
    Preset(
        name="moonshot", label="Moonshot (Kimi)", quirks=_OLD_LIMIT,
        base_urls={"openai": "https://api.moonshot.cn/v1", "anthropic": "https://api.moonshot.cn/anthropic"},
        note="Outside China: https://api.moonshot.ai/v1.",
    ),
    Preset(
        name="zhipu", label="Zhipu (GLM)", quirks=_OLD_LIMIT,
        base_urls={
            "openai": "https://open.bigmodel.cn/api/paas/v4", "anthropic": "https://open.bigmodel.cn/api/anthropic",
        },
        note="Outside China: https://api.z.ai/api/paas/v4.",
    ),
    Preset(
        name="siliconflow", label="SiliconFlow", quirks=_OLD_LIMIT,
        base_urls=_same("https://api.siliconflow.cn/v1", "openai"),
    ),
    Preset(
        name="groq", label="Groq", base_urls=_same("https://api.groq.com/openai/v1", *_OPENAI_TWO), quirks=_GROQ,
    ),
    Preset(name="mistral", label="Mistral", base_urls=_same("https://api.mistral.ai/v1", "openai"), quirks=_MISTRAL),
    Preset(
        name="xai", label="xAI",
        base_urls={**_same("https://api.x.ai/v1", *_OPENAI_TWO), "anthropic": "https://api.x.ai"},
    ),
    Preset(
        name="openrouter", label="OpenRouter", forbids_by_input=True, probe="/key",  # its list of models is public
        base_urls=_same("https://openrouter.ai/api/v1", "openai"),
        headers=(("HTTP-Referer", "{site}"), ("X-Title", "Pisces")),
        note="Its 403 can mean a prompt that its moderation refused, so it never disables a credential.",
    ),
    Preset(
        name="poe", label="Poe",
        base_urls={**_same("https://api.poe.com/v1", *_OPENAI_TWO), "anthropic": "https://api.poe.com"},
    ),
    Preset(
        name="perplexity", label="Perplexity", base_urls=_same("https://api.perplexity.ai", "openai"), probe="",
        quirks=Quirks(unversioned=True, rename=(("max_completion_tokens", "max_tokens"),)),
    ),
    Preset(
        name="ollama", label="Ollama", base_urls=_same("http://127.0.0.1:11434/v1", "openai"), quirks=_OLD_LIMIT,
        note="A private address: only the operator's file may name it. It needs no credential.",
    ),
    Preset(
        name="vllm", label="vLLM", base_urls=_same("http://127.0.0.1:8001/v1", "openai"),
        note="A private address: only the operator's file may name it.",
    ),
    Preset(
        name="gateway", label="Another Pisces or new-api", base_urls=_EVERY,
        note="The other gateway's address; it speaks all four protocols.",
    ),
)  # fmt: skip
BY_NAME: dict[str, Preset] = {preset.name: preset for preset in TABLE}
CHOICES = tuple((preset.name, preset.label) for preset in TABLE if not preset.unavailable)


def of(name: str) -> Preset:
    """The row; the plainest one for a name that nobody knows any more."""
    return BY_NAME.get(name, BY_NAME["custom"])


def base_url(name: str, protocol: str) -> str:
    """Where the provider is for this protocol; "" where the operator has to say it."""
    return of(name).base_urls.get(protocol, "")
