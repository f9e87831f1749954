from django.apps import AppConfig
from django.conf import settings

from billing import failpoints


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        failpoints.arm(settings.FAILPOINT)
