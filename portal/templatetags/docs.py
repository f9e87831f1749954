"""Tags of the documentation's samples. They read `base_url`, `secret` and `sample_model` of the page's context."""

from typing import Any

from django import template
from django.template import Context
from django.utils.safestring import mark_safe

from portal.docs import snippets
from portal.docs.snippets import Sample, Values

register = template.Library()


@register.inclusion_tag("docs/samples.html", takes_context=True)
def samples(context: Context, stem: str) -> dict[str, Any]:
    """The same call in several languages, behind tabs."""
    found = [_shown(sample) for sample in snippets.group(stem, _values(context))]
    return {"id": stem.replace("/", "-"), "samples": found}


@register.inclusion_tag("docs/sample.html", takes_context=True)
def sample(context: Context, name: str, title: str = "") -> dict[str, Any]:
    """One file under its title: where it belongs on the reader's machine."""
    return {"sample": _shown(snippets.one(name, _values(context))), "title": title}


def _shown(found: Sample) -> dict[str, str]:
    code = mark_safe(found.code)  # noqa: S308 - escaped where it was marked
    return {"id": found.id, "language": found.language, "code": code}


def _values(context: Context) -> Values:
    return Values(
        base_url=context["base_url"],
        key=context.get("secret") or snippets.KEY,
        model=context.get("sample_model") or snippets.MODEL,
    )
