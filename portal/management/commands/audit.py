"""`manage.py audit`: the ledger's invariants."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

import msgspec
from django.core.management.base import BaseCommand

from billing import audit
from billing.audit import reports
from portal.management import prepared


class Command(BaseCommand):
    help = (
        "Checks every invariant of the books. Prints each violation; exit status 1 where there is one. Keeps a report, "
        "stops the wallets concerned and tells the administrators of what is new."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list of the violations")
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--recent", action="store_true", help="only what is new, and the next slice of everything else"
        )
        which.add_argument("--look", action="store_true", help="only look: no report, nobody stopped, nobody told")

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check()
        look = reports.look_at_recent if options["recent"] else audit.run if options["look"] else reports.full
        findings = look()
        if options["json"]:
            self.stdout.write(json.dumps(msgspec.to_builtins(findings)))
        else:
            for finding in findings:
                self.stdout.write(str(finding))
            self.stdout.write(f"{len(findings)} violations" if findings else "the books are whole")
        if findings:
            sys.exit(1)
