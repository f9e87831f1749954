"""Celery: Redis as broker where there is one, else files under `var/`. Jobs carry ids; the tables are the truth."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import django
from celery import Celery
from celery.schedules import crontab
from celery.signals import worker_ready
from django.conf import settings

from portal import broker

django.setup()

app = Celery("pisces", task_cls="portal.jobs:Job")


def _broker() -> dict[str, object]:
    if settings.REDIS_URL:
        # A Redis that says nothing, or went without a farewell, is asked anew by another connection: without a timeout
        # the clock waits for it without end, and no job is asked for any more (Kombu's Redis transport,
        # `socket_timeout`).
        return {
            "broker_url": settings.REDIS_URL,
            "broker_transport_options": {
                "visibility_timeout": 600,
                "socket_timeout": 10,
                "socket_connect_timeout": 10,
            },
        }
    folder = settings.VAR_DIR / "broker"
    for name in ("queue", "control", "taken"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": f"{broker.SCHEME}://localhost",
        "broker_transport_options": {
            "data_folder_in": str(folder / "queue"),
            "data_folder_out": str(folder / "queue"),
            "processed_folder": str(folder / "taken"),
            "control_folder": str(folder / "control"),
        },
    }


app.conf.update(
    **_broker(),
    broker_connection_retry_on_startup=True,
    # A Redis that refuses, because another one has become the first of a group, is asked again by another connection
    # (Celery's `broker_channel_error_retry`): otherwise the worker ends.
    broker_channel_error_retry=True,
    task_ignore_result=True,
    task_acks_late=True,
    task_serializer="json",
    accept_content=["json"],
    task_time_limit=300,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    timezone="UTC",
    beat_schedule={
        # An expired message is worth nothing: the next sweep finds the same rows.
        "sweep_holds": {"task": "relay.tasks.sweep_holds", "schedule": 10.0, "options": {"expires": 30}},
        "forget_answers": {"task": "relay.tasks.forget_answers", "schedule": 600.0, "options": {"expires": 600}},
        "forget_responses": {"task": "relay.tasks.forget_responses", "schedule": 3600.0, "options": {"expires": 3600}},
        "probe_channels": {
            "task": "relay.tasks.probe_channels",
            "schedule": settings.PROBE_EVERY,
            "options": {"expires": 60},
        },
        "roll_up_usage": {"task": "relay.tasks.roll_up_usage", "schedule": 20.0, "options": {"expires": 20}},
        "tend_call_log": {"task": "relay.tasks.tend_call_log", "schedule": 3600.0, "options": {"expires": 3600}},
        "tend_plans": {"task": "billing.tasks.tend_plans", "schedule": 60.0, "options": {"expires": 60}},
        "sweep_payments": {"task": "billing.tasks.sweep_payments", "schedule": 60.0, "options": {"expires": 60}},
        # On the hour, because providers that tell a running total only are read as near to midnight as can be.
        "read_statements": {
            "task": "relay.tasks.read_statements",
            "schedule": crontab(minute="0"),
            "options": {"expires": 1800},
        },
        "forget_tries": {"task": "billing.tasks.forget_tries", "schedule": 3600.0, "options": {"expires": 3600}},
        "audit_recent": {"task": "billing.tasks.audit_recent", "schedule": 60.0, "options": {"expires": 60}},
        "audit_books": {
            "task": "billing.tasks.audit_books",
            "schedule": crontab(hour="3", minute="17"),
            "options": {"expires": 3600},
        },
        "propose_prices": {
            "task": "portal.tasks.propose_prices",
            "schedule": crontab(hour="4", minute="41"),
            "options": {"expires": 3600},
        },
        "close_invoices": {"task": "billing.tasks.close_invoices", "schedule": 600.0, "options": {"expires": 600}},
        "settle_debts": {"task": "billing.tasks.settle_debts", "schedule": 20.0, "options": {"expires": 20}},
        "stop_overdue": {"task": "billing.tasks.stop_overdue", "schedule": 20.0, "options": {"expires": 20}},
        "send_alerts": {"task": "portal.notices.tasks.send_alerts", "schedule": 30.0, "options": {"expires": 30}},
    },
)
app.autodiscover_tasks(["relay", "billing", "portal", "portal.notices"])


@worker_ready.connect(dispatch_uid="sweep_at_once")
def sweep_at_once(sender: Any, **_: object) -> None:
    """A worker that starts may follow one that died: what it left behind does not wait for the clock's first round."""
    sender.app.send_task("relay.tasks.sweep_holds", expires=30)
