"""`manage.py import_prices --from genai-prices|FILE`: proposes prices; an administrator accepts them."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import prices
from billing.catalog_import import difference, proposals
from billing.catalog_import.difference import Line
from billing.catalog_import.proposals import Found
from billing.price_forms import figure_words, leaps
from portal import proposing
from portal.configuration.nodes import InvalidFile
from portal.management import prepared

PACKAGE = "genai-prices"
SIGNS = {"new": "+", "changed": "~", "gone": "-"}
STOPS = {"factor": f"moves by more than {difference.FACTOR} times", "free": "becomes free"}


class Command(BaseCommand):
    help = "Compares prices of a package or a file with the catalogue, and proposes the difference. Changes no price."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="source", required=True, metavar=f"{PACKAGE}|FILE")
        parser.add_argument("--dry-run", action="store_true", help="print the difference and propose nothing")
        parser.add_argument(
            "--list-prices", action="store_true", help="the file has a provider's prices: apply the margin rules"
        )
        parser.add_argument("--currency", default="", help="of the file's prices (the ledger's)")

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check_tables()
        source = options["source"]
        try:
            found = self._found(source, options["list_prices"], options["currency"].upper())
        except InvalidFile as error:
            problems = "\n".join(f"{source}: {problem}" for problem in error.problems)
            raise CommandError(f"{problems}\nNothing was proposed.") from error
        except proposals.Refused as error:
            raise CommandError(f"{error}\nNothing was proposed.") from error
        self._tell(found)
        if options["dry_run"]:
            self.stderr.write("dry run: nothing was proposed")
        elif (proposal := proposals.propose(found, actor="import_prices")) is not None:
            self.stdout.write(f"proposal {proposal.pk}: an administrator accepts it in the administration")

    def _found(self, source: str, listed: bool, currency: str) -> Found:
        if source == PACKAGE:
            if not proposals.rules():
                self.stderr.write("note: there are no margin rules, so no model is compared")
            return proposing.of_package()
        path = Path(source)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        return proposing.of_file(path.name, content, listed=listed, currency=currency)

    def _tell(self, found: Found) -> None:
        for line in found.difference.lines:
            self.stdout.write(_words(line))
        if not found.difference.lines:
            self.stdout.write("nothing to change")
        self.stderr.write(f"{found.difference.unchanged} unchanged, {len(found.skipped)} left out")


def _words(line: Line) -> str:
    parts = [f"{name} {before} → {after}" for name, (before, after) in line.facts.items() if line.change == "changed"]
    if line.new is not None and line.old is None:
        parts.append(prices.describe(line.new))
    elif line.new is not None:
        parts += [figure_words(figure) for figure in leaps(difference.figures(line.old, line.new))]
    if line.stopped:
        parts.append(f"STOPPED: it {STOPS[line.stopped]}, and needs a confirmation of its own")
    return f"{SIGNS[line.change]} {line.model}: {'; '.join(parts) or 'no longer listed'}"
