"""Celery's filesystem broker, made safe for a reader that is quicker than the writer.

Kombu's own writes a message under the name that readers look for; one who looks too early reads half of it and the
worker ends. Here a message appears whole, by a rename, and is taken by a rename into a folder of our own.
"""

import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

import msgspec
import structlog
from kombu.transport import TRANSPORT_ALIASES, filesystem

log = structlog.get_logger(__name__)

SCHEME = "pisces-files"
TRANSPORT_ALIASES[SCHEME] = "portal.broker:Transport"


class Channel(filesystem.Channel):
    """`data_folder_in` and `data_folder_out` are one folder; `processed_folder` is on the same disk."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        name = f"{time.time_ns():020d}_{uuid.uuid4()}.{queue}.msg"
        hidden = Path(self.processed_folder) / f"{name}.new"
        hidden.write_bytes(msgspec.json.encode(payload))
        hidden.replace(Path(self.data_folder_out) / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = Path(self.processed_folder) / name
            try:
                (Path(self.data_folder_in) / name).rename(taken)
            except FileNotFoundError:  # another worker was quicker
                continue
            try:
                return msgspec.json.decode(taken.read_bytes())
            except msgspec.DecodeError:
                log.error("broker.unreadable", message=name)
            finally:
                taken.unlink()
        raise Empty


class Transport(filesystem.Transport):
    """Looks twice a second, and lets the worker see as often whether it is to end."""

    Channel = Channel
    polling_interval = 0.5

    def drain_events(self, connection: Any, **options: Any) -> None:  # type: ignore[override]
        wanted = options.get("timeout") or self.polling_interval
        super().drain_events(connection, timeout=min(wanted, self.polling_interval))
