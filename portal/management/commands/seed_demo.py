"""`manage.py seed_demo`: an administrator, the demo channel, priced models and a key with credit."""

import json
from argparse import ArgumentParser
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal import demo_data
from portal.management import prepared


class Command(BaseCommand):
    help = "Makes what the demo needs where it is missing. Prints the sign-in and a working key."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEMO_PROVIDER:
            raise CommandError("This installation is no demo. Set DEMO_PROVIDER=1 if it is meant to be one.")
        prepared.check()
        demo = demo_data.seed()
        if options["json"]:
            self.stdout.write(json.dumps(msgspec.to_builtins(demo)))
            return
        self.stdout.write(f"e-mail    {demo.email}")
        self.stdout.write(f"password  {demo.password or f'as you set it; `manage.py changepassword {demo.email}`'}")
        self.stdout.write(f"API key   {demo.key}")
