from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"
    verbose_name = "Users and teams"

    def ready(self) -> None:
        from portal import checks, logs  # noqa: F401

        logs.configure()
