"""The environment as the settings read it."""

from typing import Any

import environ
from environ.fileaware_mapping import FileAwareMapping


class _Values(FileAwareMapping):  # type: ignore[misc]
    """Values and files with values (`NAME_FILE`), without the end of the line: editors and `echo` put one there."""

    def __getitem__(self, key: str) -> str:
        return str(super().__getitem__(key)).rstrip("\r\n")


class Environment(environ.FileAwareEnv):  # type: ignore[misc]
    ENVIRON = _Values()

    def list(self, *given: Any, **options: Any) -> list[str]:
        """The parts between commas, without the space around them; one of space alone is none."""
        return [part.strip() for part in super().list(*given, **options) if part.strip()]
