"""`manage.py balance`: what a user's wallet has."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import ledger
from portal import operator
from portal.management import prepared


class Command(BaseCommand):
    help = "Prints a wallet's balance, what is held of it, what is available, and its credit limit."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check_tables()
        try:
            found = operator.balance(options["email"])
        except operator.UnknownUser as error:
            raise CommandError(f"There is no user {error}.") from error
        except ledger.OtherCurrency as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        for name, value in found.items():
            if value is not None:
                self.stdout.write(f"{name.replace('_', ' '):<14}{value:>20}")
