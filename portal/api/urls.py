"""The routes of the management API. Each is for members: a management key, or a session."""

from drf_spectacular.views import SpectacularAPIView

from portal.access import Access, api
from portal.api import calls, keys, money

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
    api("schema", SpectacularAPIView.as_view(), "api_schema", Access.PUBLIC),
]
