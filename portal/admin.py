"""Users and teams in the administration. Only superusers change users: who may, may become anybody."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from billing.admin import Kept, ReadOnlyInline
from keys import rates
from portal import services
from portal.models import Membership, Team, User

# Second factors and addresses are their owners' affair, and Pisces has roles of its own.
for _model in (Group, EmailAddress, Authenticator):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, Kept):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email",)
    ordering = ("email",)
    filter_horizontal = ("user_permissions",)
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (
            None,
            {
                "fields": ("email", "password", "last_login", "date_joined"),
                "description": _(
                    "A new address replaces every other that the user had. Sessions go on; a new password ends them."
                ),
            },
        ),
        (_("Rights"), {"fields": ("is_active", "is_staff", "is_superuser", "user_permissions")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "usable_password", "password1", "password2")}),)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        obj.email = obj.email.lower()
        super().save_model(request, obj, form, change)
        services.personal_team(obj)
        if "email" in form.changed_data:
            services.replace_addresses(obj)


class MembershipInline(ReadOnlyInline):
    model = Membership
    fields = ("user", "role")
    readonly_fields = fields


@admin.register(Team)
class TeamAdmin(Kept):
    """Teams are made with their users. What is set here are their rate limits."""

    list_display = ("name", "personal_of", "rpm", "tpm", "parallel", "created_at")
    search_fields = ("name", "personal_of__email")
    list_select_related = ("personal_of",)
    ordering = ("name",)
    inlines = (MembershipInline,)
    _facts = ("name", "personal_of", "time_zone", "created_at")
    readonly_fields = _facts
    fieldsets = (
        (None, {"fields": _facts}),
        (
            _("Rate limits"),
            {"fields": rates.FIELDS, "description": _("empty for the installation's defaults; in force in a second")},
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Team, form: Any, change: bool) -> None:
        services.set_rates(obj)


# The pages of margins and price proposals register themselves.
from portal import proposal_admin  # noqa: E402, F401
