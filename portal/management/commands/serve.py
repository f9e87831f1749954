"""`manage.py serve`: the server."""

import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal import server
from portal.management import prepared


class Command(BaseCommand):
    help = "Serves the relay and the portal until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"), help="address to listen on (HOST)")
        parser.add_argument("--port", type=int, default=settings.PORT, help="port to listen on (PORT)")

    def handle(self, *args: Any, **options: Any) -> None:
        port, workers = options["port"], os.environ.get("WEB_CONCURRENCY", "1")
        if not 0 < port < 65536:
            raise CommandError(f"{port} is no port.")
        if not workers.isdecimal() or not 0 < int(workers) <= 256:
            raise CommandError("WEB_CONCURRENCY is a number of processes, from 1 to 256.")
        server.with_port(port)
        prepared.check()
        server.serve(host=options["host"], port=port, workers=int(workers))
