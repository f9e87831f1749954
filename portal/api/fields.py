"""How values look in the management API."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import money


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
