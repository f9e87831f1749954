"""`python -m tests.kit.preparing`: what a run's processes share, made once in the folder `TEST_SHARED`.

Prints the variables by which they find it, as JSON.
"""

import json
import os
import shutil
from pathlib import Path

import django


def main() -> None:
    django.setup()
    # Only now: these read the settings.
    from tests.kit import databases
    from tests.kit.services import services

    folder = Path(os.environ["TEST_SHARED"])
    templates = json.loads(databases.prepared())
    templates["sqlite"] = str(shutil.copy(templates["sqlite"], folder / "template.sqlite3"))
    found = {"TEST_TEMPLATES": json.dumps(templates)}
    if "postgres" in services.used:
        services.used.pop("postgres").keep(folder / "postgres")
        found["TEST_POSTGRES_DATA"] = str(folder / "postgres")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
