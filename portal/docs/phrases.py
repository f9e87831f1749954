"""The sentences that the relay's tables say in English, listed so that the catalogue has them.

The relay below the portal translates nothing; a test holds this list to its tables.
"""

from django.utils.translation import gettext_noop as _

PHRASES = (
    _("No API key, or one that is unknown, paused, revoked or expired."),
    _("The wallet or the quota of the key cannot pay for the call."),
    _("This key may not use the model or the endpoint, or not from this address; or the account is frozen."),
    _("No model is offered under this name."),
    _("There is no endpoint at this path."),
    _("No stored response of this team has this id, or it has expired or was deleted."),
    _("The endpoint exists, but not with this method."),
    _("The body is not a JSON object."),
    _("The messages are missing or malformed."),
    _("A parameter has a wrong type or a value that is not supported."),
    _("The body is larger than the gateway accepts."),
    _("The call that this Idempotency-Key stands for is still running; ask again after Retry-After."),
    _("This Idempotency-Key stands for another request; a key is for one request, sent again unchanged."),
    _("The call that this Idempotency-Key stands for was paid for, and its answer could not be kept."),
    _("Too many requests; wait as long as Retry-After says."),
    _("The provider refused the request itself; its status (400, 413 or 422) and its text are passed on."),
    _("The provider failed, could not be reached, refused our credential or answered something unusable."),
    _("No channel can serve the model now, or the gateway is not ready; wait as long as Retry-After says."),
    _("The provider was silent for too long."),
    _("A fault of the gateway; nothing was charged for it."),
    _("Chat completion"),
    _("Completion of a text"),
    _("OpenAI response"),
    _("Only what runs in the background can be cancelled"),
    _("What a stored response was an answer to"),
    _("A stored response"),
    _("Forgets a stored response"),
    _("Anthropic message"),
    _("The tokens of a message, without charge"),
    _("Gemini answer"),
    _("Gemini answer, streamed"),
    _("The tokens of a prompt, without charge"),
    _("Embeddings of texts or tokens"),
    _("Gemini embedding of one content"),
    _("Gemini embeddings of several contents"),
    _("Documents by their relevance"),
    _("What is unfit in a text"),
    _("The models that this key may use"),
    _("One model"),
    _("JSON bodies only; taken out before forwarding"),
)
