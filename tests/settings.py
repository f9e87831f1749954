"""Settings of the test run: the project's own, with secrets and files that belong to nobody."""

import atexit
import os
import shutil
import tempfile

# Each process that runs tests has a folder of its own; what is given from outside would be shared by all of them.
if "VAR_DIR" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="pisces-tests-")
    atexit.register(shutil.rmtree, os.environ["VAR_DIR"], ignore_errors=True)
os.environ.setdefault("SECRET_KEY", "tests-only-" + "k" * 40)
os.environ.setdefault("ENCRYPTION_KEYS", "tests-only-" + "e" * 40)
os.environ.setdefault("EMAIL_URL", "memorymail://")

from portal.settings import *  # noqa: F403

STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405
