"""Pages of the administration that ask before they act: a form, a preview of what it comes to, then the deed.

Nothing is kept between the steps: the preview carries the form's values along, and they are checked again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from django import forms
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext


class Previewed(msgspec.Struct, kw_only=True):
    """What a preview shows: facts by name, tables, a warning, and the steps that can follow by their labels."""

    facts: Sequence[tuple[Any, Any]]
    buttons: Sequence[tuple[str, Any]]
    tables: Sequence["Table"] = ()
    warning: Any = ""


class Cell(msgspec.Struct):
    text: Any
    number: bool = False
    href: str = ""
    title: str = ""
    bad: bool = False


class Head(msgspec.Struct):
    name: Any
    number: bool = False


class Table(msgspec.Struct):
    heads: Sequence[Head]
    rows: Sequence[Sequence[Cell]]
    title: Any = ""
    note: Any = ""


class Verb(msgspec.Struct, kw_only=True):
    """A button of its own form: what it does, in words; `note` asks for one, by that label."""

    where: str
    label: Any
    meaning: Any
    note: Any = ""
    required: bool = False
    main: bool = False
    danger: bool = False
    hidden: Mapping[str, Any] = {}


class Refused(Exception):
    """The preview or the deed cannot be; the message is for the administrator."""


def run(
    request: HttpRequest,
    form: forms.Form,
    *,
    context: Mapping[str, Any],
    preview: Callable[[Any], Previewed],
    do: Callable[[Any, str], HttpResponse],
) -> HttpResponse:
    """The page of a form's step. `do` is given the step that was chosen; it and `preview` may raise Refused."""
    step = request.POST.get("step", "")
    shown: dict[str, Any] = {}
    if step not in ("", "edit") and form.is_valid():
        try:
            if step != "preview":
                return do(form, step)
            found = preview(form)
            shown = {name: getattr(found, name) for name in found.__struct_fields__}
        except Refused as error:
            form.add_error(None, str(error))
    return TemplateResponse(request, "admin/parts/steps.html", {**context, "form": form, **shown})


def said(error: Any) -> str:
    """The message of one of billing's refusals, in the reader's language."""
    return str(gettext(error.message) % error.facts)
