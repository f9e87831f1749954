"""Translations are compiled without gettext's tools, to what gettext itself reads."""

import gettext
import io
from pathlib import Path

import pytest

from portal import translations

PO = r"""
# A translator's comment
msgid ""
msgstr ""
"Language: zh_Hans\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=n != 1;\n"

#: portal/views.py:1
msgid "Keys"
msgstr "密钥"

msgid "two "
"lines\n"
msgstr ""
"两\n"
"行\n"

msgctxt "verb"
msgid "Open"
msgstr "打开"

#, python-format
msgid "%(n)d key"
msgid_plural "%(n)d keys"
msgstr[0] "%(n)d 个密钥"
msgstr[1] "%(n)d 些密钥"

#, fuzzy
msgid "Guess"
msgstr "猜"

msgid "Untranslated"
msgstr ""

#~ msgid "Old"
#~ msgstr "旧"
"""


def test_gettext_reads_what_was_compiled() -> None:
    found = gettext.GNUTranslations(io.BytesIO(translations.compile_text(PO)))
    assert found.gettext("Keys") == "密钥"
    assert found.gettext("two lines\n") == "两\n行\n"
    assert found.pgettext("verb", "Open") == "打开"
    assert found.ngettext("%(n)d key", "%(n)d keys", 1) == "%(n)d 个密钥"
    assert found.ngettext("%(n)d key", "%(n)d keys", 2) == "%(n)d 些密钥"


def test_fuzzy_empty_and_old_entries_show_the_original() -> None:
    found = gettext.GNUTranslations(io.BytesIO(translations.compile_text(PO)))
    for text in ("Guess", "Untranslated", "Old"):
        assert found.gettext(text) == text


@pytest.mark.parametrize("text", ["hello", 'msgid "x', 'msgid "x"\nmsgstr nothing', '"astray"'])
def test_what_is_no_gettext_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        translations.compile_text(text)


def test_only_what_changed_is_compiled(tmp_path: Path) -> None:
    po = tmp_path / "zh_Hans" / "LC_MESSAGES" / "django.po"
    po.parent.mkdir(parents=True)
    po.write_text(PO, encoding="utf-8")
    assert translations.compile_all([tmp_path]) == [po.with_suffix(".mo")]
    assert translations.compile_all([tmp_path]) == []
