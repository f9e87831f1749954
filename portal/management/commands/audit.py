"""`manage.py audit`: the ledger's invariants."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

import msgspec
from django.core.management.base import BaseCommand

from billing import audit


class Command(BaseCommand):
    help = "Checks every invariant of the books. Prints each violation; exit status 1 where there is one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list of the violations")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = audit.run()
        if options["json"]:
            self.stdout.write(json.dumps(msgspec.to_builtins(findings)))
        else:
            for finding in findings:
                self.stdout.write(str(finding))
            self.stdout.write(f"{len(findings)} violations" if findings else "the books are whole")
        if findings:
            sys.exit(1)
