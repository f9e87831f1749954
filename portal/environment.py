"""The environment as the settings read it."""

import warnings
from typing import Any
from urllib.parse import urlsplit

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

    def address(self, var: str, *, default: str) -> str:
        """A URL, or what has no host yet; without the space around it."""
        text = self.str(var, default=default).strip()
        try:
            _ = urlsplit(text).port
        except ValueError:
            raise _unreadable(var) from None
        return str(text)

    def db(self, var: str, *, default: str) -> dict[str, Any]:
        """The database. What django-environ says of one that it does not know has the password in it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Engine not recognized from url")
            try:
                return dict(super().db(var, default=default))
            except ValueError:
                raise _unreadable(var) from None

    def email_url(self, var: str, *, default: str) -> dict[str, Any]:
        try:
            return dict(super().email_url(var, default=default))
        except ValueError:
            raise _unreadable(var) from None

    def list(self, *given: Any, **options: Any) -> list[str]:
        """The parts between commas, without the space around them; one of space alone is none."""
        return [part.strip() for part in super().list(*given, **options) if part.strip()]


def _unreadable(var: str) -> ImproperlyConfigured:
    """Without what Python says of it: a password with a slash in it is taken for a port, and told."""
    return ImproperlyConfigured(f"{var} must be a URL; in a password write %2F for /, and so on")
