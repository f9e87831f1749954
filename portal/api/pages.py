"""Lists by cursor: what comes after a row, whatever was added since, at the same price on every page."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response
from rest_framework.views import APIView

Shape = type[serializers.BaseSerializer[Any]]


CURSOR = OpenApiParameter("cursor", str, description="From `next` or `previous` of another page.")
LIMIT = OpenApiParameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, description="Rows on a page."
)
PARAMETERS = [CURSOR, LIMIT]


class Newest(CursorPagination):
    """The newest rows first."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    ordering: tuple[str, ...] = ("-id",)


def answer(
    view: APIView, rows: QuerySet[Any], shape: Shape, *, order: tuple[str, ...] = Newest.ordering, **context: Any
) -> Response:
    """The page that the request's `cursor` names, with the addresses of its neighbours."""
    pages = Newest()
    pages.ordering = order
    try:
        page = pages.paginate_queryset(rows.order_by(*order), view.request, view=view)
    except (ValueError, ValidationError) as error:  # a cursor that somebody wrote
        raise NotFound(_("Invalid cursor")) from error
    return pages.get_paginated_response(shape(page, many=True, context=context).data)


def of(shape: Shape) -> serializers.Serializer[Any]:
    """How such a page looks."""
    fields: dict[str, serializers.Field[Any, Any, Any, Any]] = {
        "next": serializers.URLField(allow_null=True),
        "previous": serializers.URLField(allow_null=True),
        "results": shape(many=True),
    }
    return inline_serializer(f"{shape.__name__.removesuffix('Shape')}Page", fields)
