"""The Celery job of notices."""

from celery import shared_task

from billing import tasks
from portal.notices import delivery, telling


@shared_task
def send_alerts() -> bool:
    """Finds what somebody should be told, and begins to send what is due: receivers may let us wait. False where that
    is not over yet since the last time."""
    telling.tell_everything()
    return tasks.aside("send-alerts", delivery.deliver_due)
