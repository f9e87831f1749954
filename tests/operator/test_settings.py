"""Settings: how they are read, and what is said of those that cannot be."""

import runpy
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal import doctor
from portal.environment import Environment
from tests.kit import databases


def test_a_value_in_a_file_is_what_it_is_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "value").write_text("first, second\r\n")
    monkeypatch.setenv("KEPT_FILE", str(tmp_path / "value"))
    monkeypatch.setenv("GIVEN", "first, second")
    env = Environment()
    assert env.str("KEPT") == env.str("GIVEN") == "first, second"
    assert env.list("KEPT") == env.list("GIVEN") == ["first", "second"]
    assert env.list("ABSENT", default=["x"]) == ["x"]


def test_a_list_has_no_empty_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "first, , second, ")
    assert Environment().list("GIVEN") == ["first", "second"]
    monkeypatch.setenv("GIVEN", " , ")
    assert Environment().list("GIVEN", default=["x"]) == []


def test_a_value_may_have_dollars_wherever_it_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, value in enumerate(("$HOME", "$$", r"\$a", r"a\\$b$", "$")):
        (tmp_path / "value").write_text(value + "\n")
        monkeypatch.setenv(f"KEPT{number}_FILE", str(tmp_path / "value"))
        monkeypatch.setenv("GIVEN", value)
        env = Environment()
        assert env.str(f"KEPT{number}", default="x") == env.str("GIVEN", default="x") == value
        assert env.list("GIVEN") == [value]


NO_URL = "must be a URL; in a password write %2F for /, and so on"


@pytest.mark.parametrize("word", ["1", "true", "True", "ON", "yes", " y ", "0", "false", "Off", "no", "n", ""])
def test_a_switch_is_on_or_off_by_the_usual_words(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("GIVEN", word)
    assert Environment().bool("GIVEN", default=True) == (word.strip().lower() in ("1", "true", "on", "yes", "y"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "eighty", "PORT must be a whole number"),
        ("BODY_TIMEOUT", "a minute", "BODY_TIMEOUT must be a number"),
        ("SIGNUP_OPEN", "maybe", "SIGNUP_OPEN must be 1 or 0"),
        ("FETCH_URLS", "ture", "FETCH_URLS must be 1 or 0"),
        ("SECOND_ADMIN_ABOVE", "-5", "SECOND_ADMIN_ABOVE must be an amount such as 2.5"),
        ("DATABASE_URL", "pisces.sqlite3", "DATABASE_URL must begin with postgres:// or sqlite://"),
        ("DATABASE_URL", "mysql://me:secret@db/pisces", "DATABASE_URL must begin with postgres:// or sqlite://"),
        ("DATABASE_URL", "postgres://me:se/cret@db/pisces", f"DATABASE_URL {NO_URL}"),
        ("EMAIL_URL", "smtp://me:se/cret@mail", f"EMAIL_URL {NO_URL}"),
        ("EMAIL_URL", "smtp://[mail", f"EMAIL_URL {NO_URL}"),
        ("BASE_URL", "http://[::1", f"BASE_URL {NO_URL}"),
        ("EPAY_URL", "https://pay:in/submit.php", f"EPAY_URL {NO_URL}"),
        ("EMAIL_VERIFICATION", "yes", "EMAIL_VERIFICATION must be mandatory, optional or none"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured) as caught:
        runpy.run_path(str(Path(doctor.__file__).with_name("settings.py")))
    assert str(caught.value) == said
    assert "cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("command", ["doctor", "serve", "worker", "check"])
def test_a_setting_that_cannot_be_read_is_told_in_a_line(command: str) -> None:
    manage = [sys.executable, str(databases.ROOT / "manage.py"), command]
    given = databases.environment(PORT="eighty")
    done = subprocess.run(manage, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "", "ImproperlyConfigured: PORT must be a whole number\n"
    )  # fmt: skip
