"""pytest's plugin for `make mutants` (tests/mutants.py): what a mutant's session runs, and for how long.

mutmut picks the tests that come past a mutant. Of those, a pure module's mutant meets the ones that need no database,
and every other's the ones on one kind of database, unless it is about the other kind. That is quick, and stricter.
"""

import gc
import os
import signal

import hypothesis
import pytest

from billing import postgres_sql, sqlite

# Few examples, and always the same.
hypothesis.settings.register_profile("mutants", max_examples=25, derandomize=True, database=None, deadline=None)

PURE = {"money", "usage", "prices", "windows", "operations", "rules"}
ENDS_WITHIN = 20  # seconds for a test, most of which take a tenth of one
TIMED_OUT = 36  # mutmut's exit code for it


def pytest_configure(config: pytest.Config) -> None:
    """A mutant's session is the fork of a process in which the tests have run.

    What is prepared once a process was prepared there by unchanged code, so it is forgotten. And to look for garbage
    among that process's objects would copy all of their pages.
    """
    if _module():
        sqlite._insert_of.cache_clear()
        postgres_sql._form_of.cache_clear()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = [item for item in items if _is_for(_module(), item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = sorted(kept, key=_cost)


def _module() -> str:
    """The module whose mutant is tested; nothing while mutmut looks which test comes past what."""
    name = os.environ.get("MUTANT_UNDER_TEST", "")
    return name.split(".")[1] if name.startswith("billing.") else ""


def _is_for(module: str, item: pytest.Item) -> bool:
    used = set(getattr(item, "fixturenames", ()))
    if "db" in used:  # pytest-django's, which is migrated anew in every session
        return False
    if not module:
        return True
    if module in PURE:
        return not used & {"books", "cuttable"}
    kind = item.callspec.params.get("books") if hasattr(item, "callspec") else None
    return kind is None or module == "connections" or (kind == "postgres") == module.startswith("postgres")


def _cost(item: pytest.Item) -> tuple[bool, bool]:
    """The cheap ones come first, because the first that fails ends the session."""
    needs_a_database = not {"books", "cuttable"}.isdisjoint(getattr(item, "fixturenames", ()))
    return needs_a_database, bool(getattr(getattr(item, "obj", None), "is_hypothesis_test", False))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> object:
    """A mutant that hangs ends here and now: nothing that it waits for will come."""
    if _module():
        signal.signal(signal.SIGALRM, lambda *_: os._exit(TIMED_OUT))
        signal.alarm(ENDS_WITHIN)
    try:
        return (yield)
    finally:
        signal.alarm(0)
