"""`manage.py apply FILE.yaml`: merges the operator's file."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.configuration import merge, nodes, reader
from portal.management import prepared


class Command(BaseCommand):
    help = "Merges channels, models and prices from a YAML file, by name. Prints the difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE.yaml")
        parser.add_argument("--dry-run", action="store_true", help="print the difference and write nothing")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="take out of use what the file's sections do not name (deletes nothing)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check_tables()
        path = Path(options["file"])
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise CommandError(f"{path}: this is not UTF-8 text") from error
        try:
            outcome = merge.apply(
                reader.read(text), actor=f"apply {path.name}", prune=options["prune"], dry_run=options["dry_run"]
            )
        except nodes.InvalidFile as error:
            problems = "\n".join(f"{path}: {problem}" for problem in error.problems)
            raise CommandError(f"{problems}\nNothing was written.") from error
        for line in outcome.changes or ["nothing to change"]:
            self.stdout.write(line)
        for note in outcome.notes:
            self.stderr.write(f"note: {note}")
        if options["dry_run"]:
            self.stderr.write("dry run: nothing was written")
