"""`manage.py prepare`: what has to be done before a start, in one process."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from portal import preparation


class Command(BaseCommand):
    help = "Migrates the database, compiles translations, collects static files. Quick where nothing changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--demo", action="store_true", help="also `seed_demo --json`, where DEMO_PROVIDER is set")

    def handle(self, *args: Any, **options: Any) -> None:
        for line in preparation.prepare():
            self.stderr.write(line)
        if options["demo"] and settings.DEMO_PROVIDER:
            call_command("seed_demo", json=True, stdout=self.stdout)
