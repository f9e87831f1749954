"""The documentation's pages, the same for everyone but for the reader's own values in the samples."""

import re
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.html import strip_tags
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_GET

from portal.docs import tables
from portal.docs.pages import PAGES, SECTIONS
from relay import selectors
from relay.views.spec import CONVENTIONS

_HEADING = re.compile(r'<section id="([\w-]+)">\s*<h2>(.*?)</h2>', re.DOTALL)


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "docs/index.html", {"sections": SECTIONS})


@require_GET
def page(request: HttpRequest, slug: str) -> HttpResponse:
    found = PAGES.get(slug)
    if found is None:
        raise Http404
    body = render_to_string(found.template, _context(slug), request)
    contents = [(anchor, strip_tags(title)) for anchor, title in _HEADING.findall(body)]
    context = {"sections": SECTIONS, "page": found, "body": mark_safe(body), "contents": contents}  # noqa: S308
    return render(request, "docs/page.html", context)


def _context(slug: str) -> dict[str, Any]:
    """A page's own data; the model of the samples is one that can be called."""
    context: dict[str, Any] = {"sample_model": selectors.sample_model(), "currency": settings.CURRENCY}
    if slug == "errors":
        context |= {"errors": tables.errors()}
    if slug == "endpoints":
        context |= {"endpoints": tables.endpoints(), "ways": tables.authentication(), "conventions": CONVENTIONS}
    return context
