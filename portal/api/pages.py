"""Lists by cursor: what comes after a row, whatever was added since, at the same price on every page."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import inline_serializer
from rest_framework import serializers
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response
from rest_framework.views import APIView

Shape = type[serializers.BaseSerializer[Any]]


class Newest(CursorPagination):
    """The newest rows first."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    ordering = ("-id",)


def answer(view: APIView, rows: QuerySet[Any], shape: Shape, **context: Any) -> Response:
    """The page that the request's `cursor` names, with the addresses of its neighbours."""
    pages = Newest()
    page = pages.paginate_queryset(rows, view.request, view=view)
    return pages.get_paginated_response(shape(page, many=True, context=context).data)


def of(shape: Shape) -> serializers.Serializer[Any]:
    """How such a page looks."""
    fields: dict[str, serializers.Field[Any, Any, Any, Any]] = {
        "next": serializers.URLField(allow_null=True),
        "previous": serializers.URLField(allow_null=True),
        "results": shape(many=True),
    }
    return inline_serializer(f"{shape.__name__.removesuffix('Shape')}Page", fields)
