"""The pages' tests need what those of the portal need."""

from tests.portal.conftest import compiled_translations, forgotten_attempts

__all__ = ["compiled_translations", "forgotten_attempts"]
