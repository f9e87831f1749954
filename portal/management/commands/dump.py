"""`manage.py dump`: writes what `apply` reads."""

from typing import Any

from django.core.management.base import BaseCommand

from portal.configuration import writer
from portal.management import prepared


class Command(BaseCommand):
    help = "Writes channels, models and prices as YAML for `apply`, without secrets."

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check_tables()
        self.stdout.write(writer.dump(), ending="")
