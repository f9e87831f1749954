"""Where providers of payments tell us what happened. Public: the signature is the guard, checked on the raw body."""

import structlog
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from billing.payments import Delivery, Forged, Malformed, ProviderFailed, deliveries, registry

log = structlog.get_logger(__name__)


@csrf_exempt
@require_http_methods(["GET", "POST"])
def receive(request: HttpRequest, provider: str) -> HttpResponse:
    """A delivery. A provider without its secrets has no address here; 503 asks for the delivery again."""
    found = registry.find(provider)
    if found is None:
        raise Http404
    try:
        status, text = found.answer(deliveries.accept(found, _delivery(request)))
    except (Forged, Malformed) as error:
        log.info("payment.rejected", provider=provider, reason=str(error))
        return HttpResponse(f"{error}\n", status=400, content_type="text/plain")
    except ProviderFailed as error:
        log.warning("payment.unanswered", provider=provider, error=str(error))
        return HttpResponse("try again\n", status=503, content_type="text/plain", headers={"Retry-After": "30"})
    return HttpResponse(text, status=status, content_type="text/plain")


def _delivery(request: HttpRequest) -> Delivery:
    return Delivery(
        method=request.method or "",
        body=request.body,
        query=request.META.get("QUERY_STRING", ""),
        headers={name.lower(): value for name, value in request.headers.items()},
    )
