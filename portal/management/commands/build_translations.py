"""`manage.py build_translations`: the `.mo` files, which are built and not kept. Run after installing and updating."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from portal import translations


class Command(BaseCommand):
    help = "Builds the translations that pages use from locale/; needs no gettext tools."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        for folder in settings.LOCALE_PATHS:
            for path in translations.build(Path(folder)):
                self.stdout.write(f"built {path.relative_to(settings.BASE_DIR)}")
