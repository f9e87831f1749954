"""`manage.py calls`: a user's usage records."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal import operator
from portal.management import prepared

_ROW = "{time:<20} {model:<24} {channel:<16} {state:<8} {usage:<28} {cost:>14}  {request_id}"


class Command(BaseCommand):
    help = "Prints the calls of a user's team, the newest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument("--request-id", default="", help="only calls with this X-Request-Id")
        parser.add_argument("--limit", type=int, default=100, help="at most this many")
        parser.add_argument("--json", action="store_true", help="print a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check_tables()
        try:
            found = operator.calls(options["email"], request_id=options["request_id"], limit=max(0, options["limit"]))
        except operator.UnknownUser as error:
            raise CommandError(f"There is no user {error}.") from error
        if options["json"]:
            self.stdout.write(json.dumps(found, ensure_ascii=False))
            return
        names = ("time", "model", "channel", "state", "usage", "cost", "request_id")
        self.stdout.write(_ROW.format(**{name: name.replace("_", " ") for name in names}))
        for call in found:
            usage = ", ".join(f"{bucket} {units}" for bucket, units in call["usage"].items())
            self.stdout.write(_ROW.format(**{**call, "time": call["time"][:19], "usage": usage or "none"}))
