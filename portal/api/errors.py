"""The errors of the management API that are not the framework's own; all answer `detail`, or problems by field."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError as Invalid
from django.forms import BaseForm
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, ValidationError


class DetailShape(serializers.Serializer[Any]):
    """Why not."""

    detail = serializers.CharField()


class CannotPay(APIException):
    status_code = status.HTTP_402_PAYMENT_REQUIRED
    default_detail = _("The wallet has too little for this plan.")
    default_code = "insufficient_funds"


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class ProviderDown(APIException):
    status_code = status.HTTP_502_BAD_GATEWAY
    default_detail = _("The payment could not be begun. Try again in a minute.")
    default_code = "provider_failed"


@contextmanager
def said_as_fields() -> Iterator[None]:
    """What the service says of a field, the answer says of the same field."""
    try:
        yield
    except Invalid as error:
        raise ValidationError(error.message_dict) from error


def valid(form: BaseForm) -> None:
    """What a page's form refuses, the API refuses with the same words. Raises ValidationError by field."""
    if not form.is_valid():
        raise ValidationError({name: [str(problem) for problem in problems] for name, problems in form.errors.items()})
