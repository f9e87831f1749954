"""How the fuzzes that are driven by a schema are run by hypothesis."""

import hypothesis
from hypothesis import HealthCheck, Phase


def printed(examples: int) -> hypothesis.settings:
    """So many examples, never made smaller: each is a request, and the one that fails is printed as it was sent."""
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
