"""How values look in the management API."""

import datetime as dt
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import money, windows


@extend_schema_field({"type": "string", "format": "decimal", "example": "12.34", "pattern": r"^-?\d+(\.\d{1,9})?$"})
class Amount(serializers.Field[int, str, str, Any]):
    """Nano-units within, a decimal string of the ledger's currency without."""

    default_error_messages = {"invalid": _('Write an amount as a decimal string, such as "20.50".')}

    def to_representation(self, value: int) -> str:
        return money.to_text(value)

    def to_internal_value(self, data: str) -> int:
        if not isinstance(data, str):
            self.fail("invalid")
        try:
            return money.parse(data)
        except money.InvalidAmount:
            self.fail("invalid")


LARGEST_ID = 2**63 - 1  # of a row


class Moment(serializers.DateTimeField):
    """A moment in years that every zone can count in; UTC where it names no zone."""

    FIRST = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)
    LAST = dt.datetime(2999, 12, 30, tzinfo=dt.UTC)

    default_error_messages = {"out_of_range": _("The years are those from 1970 to 2999.")}

    def to_internal_value(self, value: Any) -> dt.datetime:
        found = super().to_internal_value(value)
        if not self.FIRST <= found <= self.LAST:
            self.fail("out_of_range")
        return found


class Zone(serializers.CharField):
    """The name of a time zone, such as `Asia/Shanghai`."""

    default_error_messages = {"unknown": _("Nobody knows this time zone.")}

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=64, **options)

    def to_internal_value(self, data: Any) -> str:
        name: str = super().to_internal_value(data)
        if name not in windows.known_zones():
            self.fail("unknown")
        return name
