"""Which static files there are to be served."""

from collections.abc import Iterable
from typing import Any

from django.contrib.staticfiles.finders import AppDirectoriesFinder

# The pages of REST framework's browsable API, which is not offered: as much as all the rest.
UNUSED = ("rest_framework",)


class UsedFinder(AppDirectoriesFinder):
    """The files of the installed apps that some page asks for."""

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterable[tuple[str, Any]]:
        return super().list([*(ignore_patterns or ()), *UNUSED])
