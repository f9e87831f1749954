"""The portal's pages. The relay's routes are in `relay.urls` and never reach Django's resolver."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from portal.readiness import readyz
from relay.views.spec import SpecView

# Signing in is allauth's everywhere, with its limits and its second factor.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("api/public/spec", SpecView.as_view(), name="spec"),
    path("readyz", readyz, name="readyz"),
]
