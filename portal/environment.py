"""The environment as the settings read it."""

from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping

from billing import money

_MEANT = {int: "a whole number", float: "a number", bool: "1 or 0"}
_SWITCHES = {"1", "true", "on", "ok", "y", "yes", "0", "false", "off", "n", "no", ""}


class _Values(FileAwareMapping):  # type: ignore[misc]
    """Values and files with values (`NAME_FILE`), without the end of the line: editors and `echo` put one there.

    Each dollar is escaped: django-environ takes a value that begins with one for the name of another variable, and a
    secret may begin with one.
    """

    def __getitem__(self, key: str) -> str:
        return str(super().__getitem__(key)).rstrip("\r\n").replace("$", r"\$")


class Environment(environ.FileAwareEnv):  # type: ignore[misc]
    """Raises ImproperlyConfigured, with the variable's name and without its value, for what cannot be read."""

    ENVIRON = _Values()

    def __init__(self) -> None:
        super().__init__()
        self.escape_proxy = True  # so that what is read has its dollars back

    def get_value(self, var: str, cast: Any = None, **options: Any) -> Any:
        try:
            return super().get_value(var, cast=cast, **options)
        except ValueError as error:
            if cast not in _MEANT:
                raise
            raise ImproperlyConfigured(f"{var} must be {_MEANT[cast]}") from error

    @classmethod
    def parse_value(cls, value: Any, cast: Any) -> Any:
        """django-environ takes any word that it does not know for off."""
        if cast is bool and value.strip().lower() not in _SWITCHES:
            raise ValueError("no switch")
        return super().parse_value(value, cast)

    def amount(self, var: str, *, default: str) -> int:
        """Nano-units."""
        try:
            return money.parse(self.str(var, default=default))
        except money.InvalidAmount as error:
            raise ImproperlyConfigured(f"{var} must be an amount such as 2.5") from error

    def list(self, *given: Any, **options: Any) -> list[str]:
        """The parts between commas, without the space around them; one of space alone is none."""
        return [part.strip() for part in super().list(*given, **options) if part.strip()]
