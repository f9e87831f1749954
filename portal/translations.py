"""Compiles translations (.po to .mo) without gettext's tools, which a fresh machine does not have.

Reads what `makemessages` writes: contexts, plurals, strings over several lines. Fuzzy, obsolete and empty entries are
left out, so the original text is shown for them.
"""

import ast
import struct
from collections.abc import Iterator
from pathlib import Path

MAGIC = 0x950412DE
_KEYWORDS = ("msgctxt", "msgid_plural", "msgid", "msgstr")


def compile_all(folders: list[Path]) -> list[Path]:
    """Compiles every .po below the folders whose .mo is missing or older; the .mo files written."""
    written = []
    for po in sorted(path for folder in folders for path in folder.glob("*/LC_MESSAGES/*.po")):
        mo = po.with_suffix(".mo")
        if not mo.exists() or mo.stat().st_mtime_ns < po.stat().st_mtime_ns:
            fresh = mo.with_suffix(".mo.new")
            fresh.write_bytes(compile_text(po.read_text(encoding="utf-8")))
            fresh.replace(mo)
            written.append(mo)
    return written


def compile_text(po: str) -> bytes:
    """The .mo file of a .po file's text. Raises ValueError naming a line that is no gettext."""
    messages = dict(sorted(_messages(po)))
    keys, values = b"", b""
    positions = []
    for key, value in messages.items():
        positions.append((len(key), len(keys), len(value), len(values)))
        keys += key + b"\0"
        values += value + b"\0"
    start = 28 + 16 * len(positions)
    head = struct.pack("<7I", MAGIC, 0, len(positions), 28, 28 + 8 * len(positions), 0, start)
    index = b"".join(struct.pack("<2I", size, start + at) for size, at, _, _ in positions)
    index += b"".join(struct.pack("<2I", size, start + len(keys) + at) for _, _, size, at in positions)
    return head + index + keys + values


def _messages(po: str) -> Iterator[tuple[bytes, bytes]]:
    for fields, fuzzy in _entries(po):
        translations = [text for keyword, text in fields.items() if keyword.startswith("msgstr")]
        if "msgid" not in fields or not all(translations) or (fuzzy and fields["msgid"]):
            continue
        key = fields["msgid"]
        if "msgid_plural" in fields:
            key += "\0" + fields["msgid_plural"]
        if "msgctxt" in fields:
            key = fields["msgctxt"] + "\x04" + key
        yield key.encode(), "\0".join(translations).encode()


def _entries(po: str) -> Iterator[tuple[dict[str, str], bool]]:
    """Each entry's strings by keyword (`msgstr[1]` is one), and whether it is marked as fuzzy."""
    fields: dict[str, str] = {}
    fuzzy, current = False, ""
    for number, line in enumerate(po.splitlines(), 1):
        line = line.strip()
        begins = line.startswith(("msgctxt", "msgid ", 'msgid"', "#"))
        if begins and any(name.startswith("msgstr") for name in fields):
            yield fields, fuzzy
            fields, fuzzy = {}, False
        if line.startswith("#,") and "fuzzy" in line:
            fuzzy = True
        if not line or line.startswith("#"):
            continue
        if not line.startswith('"'):
            current, _, line = line.partition(" ")
            if not current.startswith(_KEYWORDS):
                raise ValueError(f"line {number} is not gettext")
            fields[current] = ""
        try:
            fields[current] += ast.literal_eval(line.strip())
        except (SyntaxError, ValueError, KeyError) as error:
            raise ValueError(f"line {number} is not gettext") from error
    if fields:
        yield fields, fuzzy
