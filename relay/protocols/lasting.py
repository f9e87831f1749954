"""Whether a call may write to a provider's cache for an hour, which is dearer than a write for minutes. Pure.

Anthropic's marks say so (`cache_control`, "Prompt caching"), and those that are made into them: each has the lifetime
`ttl`. What stands in a text has its quotes escaped and is no mark.
"""

import re

# JSON may write any letter with an escape.
_FOR_AN_HOUR = re.compile(rb'"(?:t|\\u0074){2}(?:l|\\u006[cC])"\s*:\s*"(?:1|\\u0031)(?:h|\\u0068)"')


def for_an_hour(body: bytes) -> bool:
    """Whether something in this JSON is marked to be kept for an hour."""
    return (b"1h" in body or b"\\u" in body) and _FOR_AN_HOUR.search(body) is not None
