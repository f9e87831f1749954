"""API keys in the administration: masked; paused, resumed and revoked by actions. No secret is here to be shown."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from billing.admin import ReadOnly
from keys import services
from keys.models import ApiKey


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly):
    list_display = ("name", "masked_shown", "team", "type", "payment", "state", "expires_at", "created_at")
    list_filter = ("state", "type", "payment")
    search_fields = ("name", "=last_four", "team__name", "created_by__email")
    list_select_related = ("team",)
    ordering = ("-pk",)
    actions = ("pause", "resume", "revoke")
    fields: tuple[str, ...] = ("name", "masked_shown", "team", "created_by", "type", "payment", "billing", "state")
    fields += ("rpm", "tpm", "parallel", "models", "endpoints", "networks", "expires_at", "created_at", "revoked_at")
    readonly_fields = fields

    @admin.display(description=_("key"))
    def masked_shown(self, key: ApiKey) -> str:
        return key.masked

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("keys.change_apikey"))

    @admin.action(description=_("Pause"), permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._each(request, queryset, services.pause)

    @admin.action(description=_("Resume"), permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._each(request, queryset, services.resume)

    @admin.action(description=_("Revoke for good"), permissions=["operate"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._each(request, queryset, services.revoke)

    def _each(self, request: HttpRequest, queryset: QuerySet[ApiKey], do: Callable[[ApiKey], Any]) -> None:
        for key in queryset:
            do(key)
            self.log_change(request, key, f"{do.__name__}: {key.masked}")
        messages.success(request, _("Done; it is in force within a second."))
