"""The one exception to the portal's content security policy."""

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
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
