"""Builds the `.mo` files that gettext reads from the `.po` files that people write. Needs no gettext tools."""

import ast
import re
import struct
from pathlib import Path

MAGIC = 0x950412DE
_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d+)\])? (".*")')


def build(folder: Path) -> list[Path]:
    """Writes `NAME.mo` beside each `*/LC_MESSAGES/NAME.po` of the folder; returns what it wrote."""
    written = []
    for source in sorted(folder.glob("*/LC_MESSAGES/*.po")):
        target = source.with_suffix(".mo")
        target.write_bytes(compiled(parsed(source.read_text(encoding="utf-8"))))
        written.append(target)
    return written


def parsed(catalogue: str) -> dict[str, str]:
    """The translated entries as gettext keys them: context before U+0004, plural forms joined by U+0000.

    Fuzzy and untranslated entries are left out. Raises ValueError for a line that is none of a catalogue's.
    """
    found: dict[str, str] = {}
    for block in re.split(r"\n\s*\n", catalogue):
        lines = [line for line in block.strip().splitlines() if not line.startswith("#~")]
        if any(line.startswith("#,") and "fuzzy" in line for line in lines):
            continue
        entry = _entry([line for line in lines if not line.startswith("#")])
        if entry and any(entry[1].split("\0")):
            found[entry[0]] = entry[1]
    return found


def _entry(lines: list[str]) -> tuple[str, str] | None:
    parts: dict[str, list[str]] = {}
    current = ""
    for line in lines:
        match = _KEYWORD.fullmatch(line)
        if match:
            current = match[1] + (match[2] or "")
            parts[current] = [match[3]]
        elif line.startswith('"') and current:
            parts[current].append(line)
        else:
            raise ValueError(f"not a line of a catalogue: {line!r}")
    if not parts:
        return None
    texts = {name: "".join(ast.literal_eval(piece) for piece in pieces) for name, pieces in parts.items()}
    key = texts["msgid"]
    if "msgid_plural" in texts:
        key += "\0" + texts["msgid_plural"]
    if "msgctxt" in texts:
        key = texts["msgctxt"] + "\4" + key
    forms = [texts[name] for name in sorted(texts) if name.startswith("msgstr")]
    return key, "\0".join(forms)


def compiled(entries: dict[str, str]) -> bytes:
    """The binary catalogue: a header, two tables of lengths and offsets, then the texts, sorted by key."""
    pairs = sorted((key.encode(), text.encode()) for key, text in entries.items())
    keys_at = 7 * 4
    texts_at = keys_at + 8 * len(pairs)
    offset = texts_at + 8 * len(pairs)
    tables: list[list[int]] = [[], []]
    body = b""
    for table, column in zip(tables, zip(*pairs, strict=True), strict=True):
        for text in column:
            table += [len(text), offset]
            body += text + b"\0"
            offset += len(text) + 1
    header = struct.pack("<7I", MAGIC, 0, len(pairs), keys_at, texts_at, 0, offset)
    return header + b"".join(struct.pack(f"<{len(table)}I", *table) for table in tables) + body
