"""Where sign-ins that failed, codes of second factors that were used and calls of the management API are counted.

With Redis it is counted there, for all processes together; without it, and while it is away, in each process. Values
are JSON: whoever writes into that Redis runs no code here.
"""

import json
import time
from typing import Any

import redis
import structlog
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache

log = structlog.get_logger(__name__)

PATIENCE = 1.0  # seconds
ASK_AGAIN = 5.0  # seconds after which a Redis that was away is asked again


class Json:
    """How values lie in Redis."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, stored: bytes) -> Any:
        return json.loads(stored)


class Together(BaseCache):
    """A cache that is Redis' where that answers, else the process's own."""

    away_until = 0.0  # by the process's clock: each page makes its own cache

    def __init__(self, address: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._own = LocMemCache("together", params)
        patience = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
        self._shared = RedisCache(address, {"KEY_PREFIX": "pisces", "OPTIONS": {"serializer": Json, **patience}})

    def _ask(self, verb: str, *what: Any) -> Any:
        if time.monotonic() >= Together.away_until:
            try:
                return getattr(self._shared, verb)(*what)
            except (redis.RedisError, ValueError) as error:  # also an address that is none, and what nobody here wrote
                Together.away_until = time.monotonic() + ASK_AGAIN
                log.warning("together.redis_away", error=type(error).__name__)
        return getattr(self._own, verb)(*what)

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return bool(self._ask("add", key, value, timeout, version))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self._ask("get", key, default, version)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self._ask("set", key, value, timeout, version)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return bool(self._ask("touch", key, timeout, version))

    def delete(self, key: Any, version: int | None = None) -> bool:
        return bool(self._ask("delete", key, version))

    def clear(self) -> None:
        """Of this process alone: in Redis there is more than what is counted here, and that expires by itself."""
        self._own.clear()
