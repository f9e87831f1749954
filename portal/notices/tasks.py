"""The Celery job of notices."""

from celery import shared_task

from portal.notices import delivery, telling


@shared_task
def send_alerts() -> int:
    """Finds what somebody should be told, and sends what is due. How many deliveries arrived."""
    telling.tell_everything()
    return delivery.deliver_due()
