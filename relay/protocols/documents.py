"""Files in a prompt by their type: which are text, how a name tells it, what one without is called. Pure."""

import mimetypes

PDF = "application/pdf"
# Text under another name. Source: Gemini API, "Prompting with media files", plain text formats; the others' aliases.
_TEXTS = frozenset(
    (
        "application/json", "application/xml", "application/yaml", "application/x-yaml", "application/javascript",
        "application/x-javascript", "application/x-typescript", "application/x-python-code",
    )
)  # fmt: skip


def is_text(mime: str) -> bool:
    """False where the type is not said."""
    bare = _bare(mime)
    return bare.startswith("text/") or bare in _TEXTS


def kind_of(name: str | None) -> str:
    """The type that a file's name or address tells, empty where it tells none."""
    if name and "://" in name:
        name = name.partition("#")[0].partition("?")[0]
    return (name and mimetypes.guess_type(name)[0]) or ""


def is_pdf(mime: str) -> bool:
    return _bare(mime) == PDF


def file_name(mime: str) -> str:
    """With the ending that belongs to the type: vendors tell by it what a file is."""
    return f"document{mimetypes.guess_extension(_bare(mime)) or ('.txt' if is_text(mime) else '.bin')}"


def _bare(mime: str) -> str:
    """Without parameters such as `charset`."""
    return mime.partition(";")[0].strip().lower()
