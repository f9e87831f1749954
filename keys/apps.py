from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = "API keys"

    def ready(self) -> None:
        from billing.invoices import sources
        from keys import selectors

        sources.labels_of = selectors.masks
