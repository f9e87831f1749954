"""An invoice on paper: A4, the same words as its page, the same bytes every time.

Latin text is set in Helvetica, which every reader has. What it lacks is set in a font of this machine that is embedded
(`INVOICE_FONT`, or one that is found), else in the reader's own Chinese font by its name, as PDF provides for.
"""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from xml.sax.saxutils import escape

from django.conf import settings
from django.utils.translation import gettext as _
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from portal.invoices.document import Cells, Shown

# TrueType fonts with Chinese, where Linux distributions put them. OpenType with PostScript outlines cannot be embedded.
FONTS = (
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/droid/DroidSansFallback.ttf",
    "/usr/share/fonts/wqy-zenhei/wqy-zenhei.ttc",
    "/usr/share/fonts/google-droid-sans-fonts/DroidSansFallbackFull.ttf",
)
READERS_OWN = "STSong-Light"
EMBEDDED = "PiscesCJK"
GREY, LINE = colors.HexColor("#626b78"), colors.HexColor("#d3d8df")
EDGE, PADDING = 20 * mm, 6  # reportlab pads the frame of a page by itself
WIDTH = A4[0] - 2 * EDGE - 2 * PADDING


@lru_cache(maxsize=1)
def other_font() -> str:
    """The name of the font for what Helvetica lacks, registered."""
    for path in filter(None, (settings.INVOICE_FONT, *FONTS)):
        if not Path(path).is_file():
            continue
        try:
            pdfmetrics.registerFont(TTFont(EMBEDDED, path))
        except TTFError:  # PostScript outlines, or no font at all: `doctor` says so of the one that was set
            continue
        return EMBEDDED
    pdfmetrics.registerFont(UnicodeCIDFont(READERS_OWN))
    return READERS_OWN


def render(shown: Shown) -> bytes:
    """The PDF of an invoice or a credit note, in the language that its words are in."""
    buffer = io.BytesIO()
    paper = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=EDGE,
        rightMargin=EDGE,
        topMargin=18 * mm,
        bottomMargin=20 * mm,
        title=f"{shown.title} {shown.number}",
        author=shown.seller[0] if shown.seller else "",
        invariant=1,
    )
    paper.build(list(_story(shown)), onFirstPage=_footer(shown), onLaterPages=_footer(shown))
    return buffer.getvalue()


def _story(shown: Shown) -> Sequence[Flowable]:
    story: list[Flowable] = [
        _text(f"{shown.title} {shown.number}", size=17, bold=True),
        Spacer(0, 8 * mm),
        _pair(_address(_("Seller"), shown.seller), _address(_("Buyer"), shown.buyer)),
        Spacer(0, 6 * mm),
        _facts(shown),
        Spacer(0, 8 * mm),
        _lines(shown.lines, (_("For"), _("Calls"), _amount_head(shown))),
        _total(shown),
    ]
    if shown.account:
        head = (_("Wallet in this period"), "", _amount_head(shown))
        story += [Spacer(0, 9 * mm), _lines(shown.account, head)]
    story += [Spacer(0, 7 * mm), _text(shown.note, size=8, grey=True)]
    return story


def _amount_head(shown: Shown) -> str:
    return _("Amount (%(currency)s)") % {"currency": shown.currency}


def _pair(left: list[Flowable], right: list[Flowable]) -> Table:
    return _table([[left, right]], [WIDTH / 2, WIDTH / 2])


def _address(head: str, lines: Sequence[str]) -> list[Flowable]:
    return [_text(head, size=8, grey=True), *(_text(line, bold=not index) for index, line in enumerate(lines))]


def _facts(shown: Shown) -> Table:
    rows = [[_text(name, grey=True), _text(value)] for name, value in shown.facts]
    return _table(rows, [36 * mm, WIDTH - 36 * mm])


def _lines(lines: Sequence[Cells], head: tuple[str, str, str]) -> Table:
    rows = [[_text(head[0], size=8, grey=True), *(_text(text, size=8, grey=True, right=True) for text in head[1:])]]
    for line in lines:
        what: list[Flowable] = [_text(line.what)]
        if line.more:
            what.append(_text(line.more, size=8, grey=True))
        rows.append([what, _text(line.calls, right=True), _text(line.amount, right=True)])
    table = _table(rows, [WIDTH - 66 * mm, 22 * mm, 44 * mm], repeat=1)
    table.setStyle(TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE)]))
    return table


def _total(shown: Shown) -> Flowable:
    total = f"{shown.currency} {shown.total}"
    rows: list[list[object]] = [[_text(_("Total"), size=11, bold=True), _text(total, size=11, bold=True, right=True)]]
    if shown.tax:
        rows.append([_text(shown.tax, size=8, grey=True), ""])
    table = _table(rows, [WIDTH - 66 * mm, 66 * mm])
    table.setStyle(TableStyle([("SPAN", (0, 1), (1, 1))] if shown.tax else []))
    return KeepTogether([Spacer(0, 2 * mm), table])


def _table(rows: Sequence[Sequence[object]], widths: Sequence[float], *, repeat: int = 0) -> Table:
    return Table(
        rows,
        colWidths=list(widths),
        repeatRows=repeat,
        hAlign="LEFT",
        style=[
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 3),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ],
    )


# ---- text -----------------------------------------------------------------------------------------------------------


def _text(text: str, *, size: float = 9.5, bold: bool = False, grey: bool = False, right: bool = False) -> Paragraph:
    style = ParagraphStyle(
        "invoice",
        fontName="Helvetica-Bold" if bold else "Helvetica",
        fontSize=size,
        leading=size * 1.4,
        textColor=GREY if grey else colors.black,
        alignment=TA_RIGHT if right else 0,
        splitLongWords=1,
        wordWrap="CJK" if any(map(_is_other, text.replace("−", "–"))) else None,
    )
    return Paragraph(marked(text), style)


def marked(text: str) -> str:
    """The text as reportlab's markup, each run of characters in a font that has them."""
    parts: list[str] = []
    run, other = "", False
    for character in text.replace("−", "–"):  # the minus is not in that code page; this dash is as wide
        if _is_other(character) != other:
            parts.append(_run(run, other))
            run, other = "", not other
        run += character
    parts.append(_run(run, other))
    return "".join(parts)


def _run(text: str, other: bool) -> str:
    if not text:
        return ""
    return f'<font name="{other_font()}">{escape(text)}</font>' if other else escape(text)


def _is_other(character: str) -> bool:
    """Whether Helvetica has no glyph for it: its characters are those of Windows' Latin code page."""
    try:
        character.encode("cp1252")
    except UnicodeEncodeError:
        return True
    return False


def _footer(shown: Shown):  # type: ignore[no-untyped-def]  # reportlab has no types
    def draw(canvas, paper) -> None:  # type: ignore[no-untyped-def]
        canvas.saveState()
        canvas.setFont("Helvetica", 8)
        canvas.setFillColor(GREY)
        canvas.drawString(EDGE + PADDING, 11 * mm, shown.number)
        canvas.drawRightString(A4[0] - EDGE - PADDING, 11 * mm, str(paper.page))
        canvas.restoreState()

    return draw
