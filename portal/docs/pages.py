"""The documentation's pages in their order. A page's text is the template `docs/pages/<slug>.html`."""

from typing import Any

import msgspec
from django.utils.translation import gettext_lazy as _


class Page(msgspec.Struct, frozen=True):
    slug: str
    title: Any
    summary: Any

    @property
    def template(self) -> str:
        return f"docs/pages/{self.slug}.html"


class Section(msgspec.Struct, frozen=True):
    title: Any
    pages: tuple[Page, ...]


SECTIONS = (
    Section(
        _("Start"),
        (
            Page(
                "quick-start",
                _("Quick start"),
                _("Point your SDK at this address and use a Pisces key. Nothing else changes."),
            ),
        ),
    ),
    Section(
        _("Protocols"),
        (
            Page("openai-chat", "OpenAI Chat", _("Chat completions, for every SDK and tool that speaks OpenAI.")),
            Page("openai-responses", "OpenAI Responses", _("Responses with stored turns, tools and typed events.")),
            Page("anthropic", "Anthropic Messages", _("Messages as Claude's SDKs send them, to any model.")),
            Page("gemini", "Gemini", _("Gemini's own paths, to any model.")),
        ),
    ),
    Section(
        _("Apps"),
        (
            Page("claude-code", "Claude Code", _("Anthropic's agent for the terminal, by environment variables.")),
            Page("codex", "Codex", _("OpenAI's agent for the terminal, as a provider of its own.")),
            Page("gemini-cli", "Gemini CLI", _("Google's agent for the terminal, by environment variables.")),
            Page("continue", "Continue", _("The assistant in VS Code and JetBrains, by one file.")),
            Page("sillytavern", "SillyTavern", _("As a custom OpenAI-compatible source.")),
            Page("langchain", "LangChain", _("ChatOpenAI with another base URL.")),
        ),
    ),
    Section(
        _("Reference"),
        (
            Page("endpoints", _("Endpoints"), _("What the gateway serves, and how a key is given.")),
            Page(
                "errors",
                _("Errors and retries"),
                _("The envelope is that of the protocol you call; the code is the same everywhere."),
            ),
            Page("faq", _("FAQ"), _("Short answers to what is asked most.")),
        ),
    ),
)
PAGES = {page.slug: page for section in SECTIONS for page in section.pages}
