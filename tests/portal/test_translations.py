"""Chinese is complete: every string of the sources is in the catalogue, translated and certain."""

import gettext
import io
import re
import subprocess
from pathlib import Path

import pytest
from django.conf import settings
from django.utils.translation.template import templatize

from portal import translations

ROOT = Path(settings.BASE_DIR)
CATALOGUE = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
APPS = ("portal", "relay", "keys", "billing")
KEYWORDS = (
    "gettext_noop", "gettext_lazy", "ngettext_lazy:1,2", "pgettext:1c,2", "npgettext:1c,2,3", "pgettext_lazy:1c,2",
    "npgettext_lazy:1c,2,3", "_",
)  # fmt: skip


def messages(catalogue: str) -> set[str]:
    """The `msgid`s of a catalogue, whichever way they are wrapped."""
    found = re.findall(r'^msgid ((?:".*"\n?)+)', catalogue, re.MULTILINE)
    return {"".join(re.findall(r'"(.*)"', text)) for text in found} - {""}


def extracted(source: str) -> set[str]:
    command = ["xgettext", "--language=Python", "--from-code=UTF-8", "--output=-", "--no-wrap", "-"]
    done = subprocess.run(
        [*command, *(f"--keyword={name}" for name in KEYWORDS)],
        input=source,
        capture_output=True,
        text=True,
        check=True,
    )
    return messages(done.stdout)


def test_nothing_is_untranslated_or_fuzzy(tmp_path: Path) -> None:
    command = ["msgfmt", "--check-format", "--statistics", "-o", str(tmp_path / "out.mo"), str(CATALOGUE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"^\d+ translated messages?\.$", done.stderr, re.MULTILINE), done.stderr


def test_what_is_built_without_gettext_equals_what_gettext_builds(tmp_path: Path) -> None:
    text = CATALOGUE.read_text() + '\n\nmsgctxt "a"\nmsgid ""\n"two\\n"\n"lines"\nmsgstr "x\\"y"\n'
    source, theirs = tmp_path / "in.po", tmp_path / "out.mo"
    source.write_text(text)
    subprocess.run(["msgfmt", "-o", str(theirs), str(source)], check=True)
    with theirs.open("rb") as file:
        expected = gettext.GNUTranslations(file)
    ours = gettext.GNUTranslations(io.BytesIO(translations.compile_text(text)))
    for catalogue in (ours, expected):  # msgfmt drops the date of the template from the header
        vars(catalogue)["_catalog"].pop("")
    assert vars(ours)["_catalog"] == vars(expected)["_catalog"]
    assert ours.pgettext("a", "two\nlines") == 'x"y'


@pytest.mark.parametrize("app", APPS)
def test_every_string_of_the_code_is_in_the_catalogue(app: str) -> None:
    source = "\n".join(
        path.read_text() for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts
    )
    assert extracted(source) - messages(CATALOGUE.read_text()) == set()


def test_every_string_of_the_templates_is_in_the_catalogue() -> None:
    paths = sorted((ROOT / "templates").rglob("*.html"))
    source = "\n".join(templatize(path.read_text(), origin=str(path)) for path in paths)
    assert extracted(source) - messages(CATALOGUE.read_text()) == set()
