"""What a server imports of other people's modules, as far as these need no settings: for `tests.kit.forked`."""

import importlib

for name in (
    *("aiohttp", "httptools", "msgspec", "redis.asyncio", "requests", "structlog", "uvicorn", "uvloop", "yaml"),
    *("celery.app.base", "cryptography.fernet", "drf_spectacular.utils", "psycopg", "stripe"),
    *("django.contrib.admin.utils", "django.contrib.staticfiles.finders", "django.core.asgi", "django.core.mail"),
    *("django.forms", "django.template.loader", "django.test.client", "django.views.generic"),
):
    importlib.import_module(name)
