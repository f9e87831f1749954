"""`manage.py encrypt_anew`: so that an old encryption key can be taken away."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from portal import sealed
from portal.management import prepared


class Command(BaseCommand):
    help = (
        "Encrypts all that is stored encrypted with the first of ENCRYPTION_KEYS, so that those behind it can be taken "
        "away. Start every server and worker with the new key first; they may run meanwhile. What was broken off is "
        "begun again. Exit status 1 where something is encrypted with a key that is not there; that stays as it is."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        prepared.check()
        lost = 0
        for done in sealed.encrypt_anew():
            lost += done.lost
            rest = f", {done.lost} cannot be decrypted" if done.lost else ""
            self.stdout.write(f"{done.name}: {done.anew} encrypted anew{rest}")
        if lost:
            sys.exit(1)
