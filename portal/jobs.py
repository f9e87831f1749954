"""What a background job is besides its function: how its message is acknowledged."""

from typing import Any

from celery import Task
from celery.utils.log import get_logger
from celery.worker.request import Request


class AcknowledgedOrAnew(Request):
    """A job whose message cannot be acknowledged ends the connection, and another one is made.

    Celery only logs it (Kombu's `Message.ack_log_error`), and goes on as if the job were still at work: a worker that
    has one job at a time then waits for its end for ever, and asks for no other.
    """

    def acknowledge(self) -> None:
        if not self.acknowledged:
            self._on_ack(get_logger("celery.worker.request"), ())  # type: ignore[attr-defined]  # none is kept back
            self.acknowledged = True


class Job(Task[..., Any]):
    """The base of all jobs."""

    abstract = True
    Request = "portal.jobs:AcknowledgedOrAnew"
