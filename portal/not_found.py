"""What is answered where there is nothing: a page to a reader, and to a program the error that its SDK understands."""

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.views import defaults

from relay import handler


def answer(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A vendor's endpoint that the gateway does not have may lie outside of the relay's paths: Google's files are put
    at `/upload/v1beta/files`, and a base URL without the version leaves `/files` of OpenAI's."""
    if not isinstance(request, ASGIRequest) or (refusal := handler.refuse_unknown(dict(request.scope))) is None:
        return defaults.page_not_found(request, exception)
    headers = {name.decode(): value.decode() for name, value in refusal.headers}
    return HttpResponse(refusal.body, status=refusal.status, headers=headers)
