"""`manage.py doctor`: what is misconfigured."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from portal import doctor


class Command(BaseCommand):
    help = "Says what is misconfigured and what to do about it; exit status 1 where something does not work."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        findings = doctor.examine()
        for finding in findings:
            self.stdout.write(str(finding))
        errors = sum(finding.level == doctor.ERROR for finding in findings)
        self.stdout.write(f"{errors} errors, {len(findings) - errors} warnings" if findings else "all is well")
        if errors:
            sys.exit(1)
