"""`manage.py worker`: background jobs and the clock that asks for them."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from portal import server
from portal.management import prepared


class Command(BaseCommand):
    help = "Runs background jobs until SIGTERM or Ctrl-C. Without Redis one folder needs, and runs, one worker."

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check()
        try:
            sys.exit(server.work())
        except KeyboardInterrupt:
            pass
