"""The portal's pages, each with who may see it. The relay's routes are in `relay.urls` and never come here."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from portal import (
    key_views,
    limit_views,
    not_found,
    plan_views,
    redeem_views,
    usage_views,
    views,
    wallet_views,
    webhooks,
)
from portal.access import member, public
from portal.docs import views as docs
from portal.invoices import views as invoices
from portal.notices import views as notices
from portal.readiness import readyz
from relay.views.spec import OpenApiView, SpecView

# Signing in is allauth's everywhere, with its limits and its second factor.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    member("", views.overview, "overview"),
    member("keys/", key_views.index, "keys"),
    member("keys/create/", key_views.create, "key_create"),
    member("keys/<int:pk>/edit/", key_views.edit, "key_edit"),
    member("keys/<int:pk>/pause/", key_views.pause, "key_pause"),
    member("keys/<int:pk>/resume/", key_views.resume, "key_resume"),
    member("keys/<int:pk>/revoke/", key_views.revoke, "key_revoke"),
    member("limits/", limit_views.index, "limits"),
    member("limits/zone/", limit_views.zone, "limit_zone"),
    member("limits/team/", limit_views.team_caps, "limit_team"),
    member("limits/keys/<int:pk>/", limit_views.key_caps, "limit_key"),
    member("limits/<int:pk>/raise/", limit_views.raise_cap, "limit_raise"),
    member("limits/<int:pk>/lower/", limit_views.end_raise, "limit_lower"),
    member("plans/", plan_views.index, "plans"),
    member("plans/<int:pk>/buy/", plan_views.buy, "plan_buy"),
    member("plans/<int:pk>/pay/", plan_views.pay, "plan_pay"),
    member("usage/", usage_views.usage, "usage"),
    member("usage/sums.csv", usage_views.export_sums, "usage_sums"),
    member("usage/calls.csv", usage_views.export_calls, "usage_calls"),
    member("usage/<uuid:pk>/", views.call, "call"),
    member("wallet/redeem/", redeem_views.index, "redeem"),
    member("invoices/", invoices.index, "invoices"),
    member("invoices/details/", invoices.details, "billing_details"),
    member("invoices/<int:pk>/", invoices.show, "invoice"),
    member("invoices/<int:pk>/pdf/", invoices.as_pdf, "invoice_pdf"),
    member("statements/", invoices.statements, "statements"),
    member("statements/csv/", invoices.statement_csv, "statement_csv"),
    member("notices/", notices.index, "notices"),
    member("notices/test/", notices.test_email, "notice_test"),
    member("notices/webhooks/add/", notices.add, "webhook_add"),
    member("notices/webhooks/<int:pk>/remove/", notices.remove, "webhook_remove"),
    member("notices/webhooks/<int:pk>/enable/", notices.enable, "webhook_enable"),
    member("notices/webhooks/<int:pk>/test/", notices.test_webhook, "webhook_test"),
    member("notices/deliveries/<int:pk>/again/", notices.redeliver, "redeliver"),
    member("account/", views.account, "account"),
    member("wallet/", wallet_views.index, "wallet"),
    member("wallet/pay/", wallet_views.pay, "wallet_pay"),
    member("wallet/payments/<uuid:pk>/", wallet_views.payment, "payment"),
    public("currency/", wallet_views.currency, "currency"),
    public("webhooks/<slug:provider>/", webhooks.receive, "webhook"),
    public("pricing/", views.pricing, "pricing"),
    public("docs/", docs.index, "docs"),
    public("docs/<slug:slug>/", docs.page, "docs_page"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("accounts/", include("allauth.urls")),
    path("api/v1/", include("portal.api.urls")),
    path("api/public/spec", SpecView.as_view(), name="spec"),
    path("api/public/openapi.json", OpenApiView.as_view(), name="openapi"),
    public("favicon.ico", views.favicon, "favicon"),
    public("readyz", readyz, "readyz"),
    path("admin/", admin.site.urls),
]

handler404 = not_found.answer
