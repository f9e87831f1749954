"""The one exception to the portal's content security policy, and what no page is asked for."""

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

_RELAXED = {"script-src": [SELF, UNSAFE_EVAL, UNSAFE_INLINE], "style-src": [SELF, UNSAFE_INLINE]}


class AdminPolicyMiddleware(MiddlewareMixin):
    """The administration's theme evaluates expressions and styles inline; nothing outside `/admin/` may.

    Stands after django-csp in the list, so that its mark is on the response when django-csp writes the header.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.path.startswith("/admin/"):
            response._csp_replace = _RELAXED  # type: ignore[attr-defined]
        return response


class NulMiddleware(MiddlewareMixin):
    """An address whose query has a NUL is a 400. No text that is stored has one, and PostgreSQL compares none with it.

    Forms and the management API refuse it by themselves, each in its own words.
    """

    def process_request(self, request: HttpRequest) -> None:
        if "%00" in request.META["QUERY_STRING"] and not request.path.startswith("/api/"):
            raise BadRequest("a NUL in the query")
