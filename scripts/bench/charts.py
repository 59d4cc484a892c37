"""Draws bars with whiskers as SVG by hand: readable in light and dark mode, no dependency."""

import math
from dataclasses import dataclass
from html import escape

WIDTH = 820
LABEL = 190  # where the bars begin
NUMBERS = 150  # what is kept free for the numbers after them
CUT = 8  # times ours
BAR, GAP, HEAD, SECTION = 16, 6, 56, 30

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  .section { font-weight: 600; }
  .note, .number { fill: #59636e; font-size: 12px; }
  .bar { fill: #a9b4c0; } .ours { fill: #2f6fde; } .limit { fill: #d4d9df; }
  .whisker { stroke: #1f2328; stroke-width: 1.2; }
  .back, .gap { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .note, .number { fill: #9198a1; }
    .bar { fill: #525c68; } .ours { fill: #4c8dff; } .limit { fill: #39414a; }
    .whisker { stroke: #e6edf3; } .back, .gap { fill: #0d1117; }
  }
"""


@dataclass(frozen=True)
class Bar:
    """A median with the least and the greatest value.  `kind` is bar, ours or limit."""

    label: str
    median: float
    low: float
    high: float
    kind: str = "bar"


@dataclass(frozen=True)
class Section:
    """Bars that are compared with each other, on a scale of their own."""

    title: str
    bars: list[Bar]


def human(value: float) -> str:
    """Three digits are enough to compare."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def limit_of(bars: list[Bar]) -> float:
    """Where the scale ends.  A bar many times as long as ours is cut, so that the others can be told apart."""
    longest = max(bar.high for bar in bars)
    ours = [bar.high for bar in bars if bar.kind == "ours"]
    return min(longest, CUT * max(ours)) if ours and max(ours) > 0 else max(longest, 1e-9)


def draw_cut_bar(bar: Bar, top: int) -> str:
    end = WIDTH - NUMBERS
    return (
        f'<text x="{LABEL - 8}" y="{top + 12.5:.1f}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect class="{bar.kind}" x="{LABEL}" y="{top}" width="{end - LABEL}" height="{BAR}" rx="2"/>'
        f'<path class="gap" d="M{end - 24} {top - 1}l-6 {BAR + 2}h5l6 -{BAR + 2}z"/>'
        f'<text class="number" x="{end + 8}" y="{top + 12.5:.1f}">{human(bar.median)}</text>'
    )


def draw_bar(bar: Bar, top: int, limit: float) -> str:
    if bar.median > limit:
        return draw_cut_bar(bar, top)
    scale = (WIDTH - LABEL - NUMBERS) / limit
    length, low, high = (LABEL + max(1.0, min(value, limit) * scale) for value in (bar.median, bar.low, bar.high))
    middle = top + BAR / 2
    return (
        f'<text x="{LABEL - 8}" y="{top + 12.5:.1f}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect class="{bar.kind}" x="{LABEL}" y="{top}" width="{length - LABEL:.1f}" height="{BAR}" rx="2"/>'
        f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"/>'
        f'<text class="number" x="{max(length, high) + 8:.1f}" y="{top + 12.5:.1f}">{human(bar.median)}</text>'
    )


def draw(title: str, note: str, sections: list[Section]) -> str:
    """A whole chart."""
    parts, top = [], HEAD
    for section in sections:
        if section.title:
            parts.append(f'<text class="section" x="12" y="{top + 14}">{escape(section.title)}</text>')
            top += SECTION - 6
        limit = limit_of(section.bars)
        for bar in section.bars:
            parts.append(draw_bar(bar, top, limit))
            top += BAR + GAP
        top += 12
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{top}" rx="6"/>',
        f'<text class="title" x="12" y="24">{escape(title)}</text>',
        f'<text class="note" x="12" y="42">{escape(note)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"
