"""The portal's pages. The relay's routes are in `relay.urls` and never reach Django's resolver."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
]
