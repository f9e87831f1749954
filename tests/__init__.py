import pytest

# What a failed assertion of theirs saw is told as if it stood in a test.
pytest.register_assert_rewrite("tests.faults", "tests.kit", "tests.model")
