"""Brings an installation to where it can be served: database, translations, static files. Quick the second time."""

import hashlib
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

from portal import translations


def prepare() -> list[str]:
    """What was done, a line each; safe beside a running server."""
    Path(settings.VAR_DIR).mkdir(parents=True, exist_ok=True)
    call_command("migrate", interactive=False, verbosity=0)
    done = [f"compiled {mo.parent.parent.name}" for mo in translations.compile_all(settings.LOCALE_PATHS)]
    stamp = Path(settings.VAR_DIR) / "static.stamp"
    sources = _sources()
    if not stamp.exists() or stamp.read_text() != sources or not Path(settings.STATIC_ROOT).is_dir():
        call_command("collectstatic", interactive=False, verbosity=0)
        stamp.write_text(sources)
        done.append("collected static files")
    return done


def _sources() -> str:
    """A digest of the names, sizes and times of all static files."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list([]):
            found = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
