"""Structured logs on standard error: one JSON object a line in production, readable text in development.

Nothing logs bodies, headers or keys; events carry ids. `redact` is the net below that: whatever looks like one of our
keys, or stands under a name that promises a secret, is masked before it is written.
"""

import logging
import logging.config
import re
from typing import Any

import structlog
from django.conf import settings

from keys.tokens import PATTERN

_KEY = re.compile(PATTERN)
_IN_QUERY = re.compile(r"([?&]key=)[^&\s\"'\\]+")
_SECRET_NAMES = re.compile(r"authorization|api_?key|secret|password|token|cookie", re.IGNORECASE)


def redact(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    for name, value in event.items():
        if _SECRET_NAMES.search(name):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = _KEY.sub("pisces-***", value)
    return event


def _masked(text: str) -> str:
    """Without our keys, and without those in an address, which may be a provider's."""
    return _KEY.sub("pisces-***", _IN_QUERY.sub(r"\1***", text))


def mask(_: Any, __: str, line: str) -> str:
    """The line as it is written: what an exception says stands nowhere before."""
    return _masked(line)


class _RedactingFilter(logging.Filter):
    """The same for libraries' own log records, `?key=` in logged paths among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = _masked(text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


# Without the frames' variables: among them are keys and passwords.
_tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def _level() -> str:
    """The usual one for what is none: the doctor, and whatever else logs, can say so then."""
    return settings.LOG_LEVEL if settings.LOG_LEVEL in logging.getLevelNamesMapping() else "INFO"


def configure() -> None:
    """Sets up structlog and the standard library's logging alike."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    renderer: list[Any] = (
        [structlog.processors.ExceptionRenderer(_tracebacks), structlog.processors.JSONRenderer()]
        if settings.LOG_JSON
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"redact": {"()": _RedactingFilter}},
            "formatters": {
                "plain": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer, mask],
                }
            },
            "handlers": {
                "stderr": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["redact"]},
            },
            "root": {"handlers": ["stderr"], "level": _level()},
            "loggers": {
                "uvicorn.access": {"level": "WARNING"},
                "django.utils.autoreload": {"level": "WARNING"},
                "celery": {"level": "WARNING"},  # it tells of every job, every few seconds
            },
        }
    )
