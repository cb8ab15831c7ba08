"""A bar chart of the results, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from relib.bench.measure import Result
from relib.bench.table import shown

__all__ = ["plot"]

_WIDTH, _LEFT, _RIGHT = 860, 190, 90
_BAR, _GAP, _HEADING, _TOP = 18, 6, 40, 56
_COLOURS = (("relib", "#2a6fbb"), ("floor", "#9aa5b1"), ("", "#c9793f"))
_STYLE = (
    "text { font: 12px sans-serif; fill: #222 } .small { fill: #666 } .head { font-weight: bold }"
)


def plot(results: Sequence[Result]) -> str:
    """Bars from left to right on a logarithmic scale, a group for each extension.

    Args:
        results: at least one of them with a row that was measured.
    """
    every = [row.seconds for result in results for row in result.rows if row.seconds is not None]
    low = 10 ** math.floor(math.log10(min(every)))
    high = 10 ** math.ceil(math.log10(max(every) * 1.0001))

    def x(seconds: float) -> float:
        share = math.log(seconds / low) / math.log(high / low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    body: list[str] = []
    y = float(_TOP)
    for result in results:
        y += _HEADING
        heading = f"{result.name} ({result.kind}, {result.lines} lines)"
        body.append(_text(_LEFT, y - 10, heading, "head"))
        for row in result.rows:
            if row.seconds is None:
                continue
            colour = next(colour for name, colour in _COLOURS if row.name.startswith(name))
            middle, end = y + _BAR - 5, x(row.seconds)
            body += [
                _text(_LEFT - 8, middle, row.name, anchor="end"),
                f'<rect x="{_LEFT}" y="{y:g}" width="{max(1.0, end - _LEFT):.1f}" height="{_BAR}" '
                f'fill="{colour}"/>',
                _text(end + 6, middle, shown(row.seconds)),
            ]
            y += _BAR + _GAP
    grid: list[str] = []
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = x(10.0**power)
        grid.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{y:g}" stroke="#ddd"/>')
        grid.append(_text(at, _TOP - 6, _tick(power), "small", anchor="middle"))
    title = "From save to new answer: median, on a logarithmic scale"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 16:g}" '
            f'width="{_WIDTH}" height="{y + 16:g}" role="img">',
            f"<title>{title}</title><style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="white"/>',
            _text(16, 24, title, "head"),
            *grid,
            *body,
            "</svg>\n",
        ]
    )


def _tick(power: int) -> str:
    return f"{10 ** (power + 3):g} ms" if power < 0 else f"{10**power:g} s"


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:g}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'
