"""The address of the OpenAPI document. What it says is `portal.api.schema`'s, which the framework's views import."""

from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request


class Document(SpectacularAPIView):
    """The API has one version, whatever is asked for: that would stand in the file's name, and so in a header."""

    def _get_version_parameter(self, request: Request) -> None:
        return None
