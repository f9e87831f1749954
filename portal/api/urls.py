"""The routes of the management API. Each is for members: a management key, or a session."""

from drf_spectacular.views import SpectacularAPIView

from portal.access import Access, api, api_otherwise
from portal.api import calls, invoices, keys, limits, money, notices, payments, usage
from portal.api.access import Nowhere

urlpatterns = [
    api("keys", keys.Keys.as_view(), "api_keys"),
    api("keys/<int:pk>", keys.Key.as_view(), "api_key"),
    api("keys/<int:pk>/pause", keys.Pause.as_view(), "api_key_pause"),
    api("keys/<int:pk>/resume", keys.Resume.as_view(), "api_key_resume"),
    api("wallet", money.Wallet.as_view(), "api_wallet"),
    api("transfers", money.Transfers.as_view(), "api_transfers"),
    api("models", money.Prices.as_view(), "api_models"),
    api("plan-offers", money.Offers.as_view(), "api_plan_offers"),
    api("plans", money.Plans.as_view(), "api_plans"),
    api("calls", calls.Calls.as_view(), "api_calls"),
    api("calls/<uuid:pk>", calls.Call.as_view(), "api_call"),
    api("calls.csv", usage.CallsCsv.as_view(), "api_calls_csv"),
    api("usage", usage.Usage.as_view(), "api_usage"),
    api("usage.csv", usage.UsageCsv.as_view(), "api_usage_csv"),
    api("payment-methods", payments.Methods.as_view(), "api_payment_methods"),
    api("payments", payments.Payments.as_view(), "api_payments"),
    api("payments/<uuid:pk>", payments.OnePayment.as_view(), "api_payment"),
    api("redeem", payments.Redeem.as_view(), "api_redeem"),
    api("invoices", invoices.Invoices.as_view(), "api_invoices"),
    api("invoices/<int:pk>", invoices.OneInvoice.as_view(), "api_invoice"),
    api("invoices/<int:pk>/pdf", invoices.InvoicePdf.as_view(), "api_invoice_pdf"),
    api("billing-details", invoices.Details.as_view(), "api_billing_details"),
    api("statement", invoices.Summary.as_view(), "api_statement"),
    api("statement.csv", invoices.StatementCsv.as_view(), "api_statement_csv"),
    api("limits", limits.Limits.as_view(), "api_limits"),
    api("limits/team", limits.TeamCaps.as_view(), "api_limits_team"),
    api("limits/keys/<int:pk>", limits.KeyCaps.as_view(), "api_limits_key"),
    api("limits/<int:pk>/raise", limits.RaiseCap.as_view(), "api_limits_raise"),
    api("limits/<int:pk>/lower", limits.LowerCap.as_view(), "api_limits_lower"),
    api("limits/changes", limits.Changes.as_view(), "api_limits_changes"),
    api("notices", notices.Notices.as_view(), "api_notices"),
    api("notices/settings", notices.Settings.as_view(), "api_notice_settings"),
    api("notices/test", notices.TestEmail.as_view(), "api_notice_test"),
    api("webhooks", notices.Webhooks.as_view(), "api_webhooks"),
    api("webhooks/<int:pk>", notices.OneWebhook.as_view(), "api_webhook"),
    api("webhooks/<int:pk>/enable", notices.EnableWebhook.as_view(), "api_webhook_enable"),
    api("webhooks/<int:pk>/test", notices.TestWebhook.as_view(), "api_webhook_test"),
    api("webhooks/<int:pk>/deliveries", notices.Deliveries.as_view(), "api_webhook_deliveries"),
    api("deliveries/<int:pk>/again", notices.Redeliver.as_view(), "api_redeliver"),
    api("schema", SpectacularAPIView.as_view(), "api_schema", Access.PUBLIC),
    api_otherwise(Nowhere.as_view(), "api_nowhere"),
]
