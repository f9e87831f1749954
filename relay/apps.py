from django.apps import AppConfig


class RelayConfig(AppConfig):
    name = "relay"
    verbose_name = "Relay"

    def ready(self) -> None:
        from billing import catalog
        from billing.invoices import sources
        from relay import audit, rollup_audit, selectors  # noqa: F401
        from relay.protocols import capabilities

        catalog.check_capabilities = capabilities.check
        sources.lines_of = selectors.price_lines
