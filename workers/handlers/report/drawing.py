"""How every chart looks, and how it becomes SVG for the page and PNG for a slide.

Text in a chart may come from the data: it is never read as mathematics (`$`), and both backends escape it.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#22303c"
FAINT = "#7b8794"
GRID = "#dde3e8"
ACCENT = "#d1495b"
SERIES_COLOURS = ("#2b6ca3", "#e08e2b", "#3f8f6b", "#8a5fa8", "#5aa9c9", "#a06a4e")
DATA = SERIES_COLOURS[0]

# On the page these follow the theme; the rest reads well on light and dark alike.
THEMED = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--line)", ACCENT: "var(--accent)", DATA: "var(--data)"}

WIDTH_INCHES = 7.6
PNG_DPI = 144
LABEL_LENGTH = 24

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": FAINT,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 8.5,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "xtick.labelcolor": FAINT,
    "ytick.color": GRID,
    "ytick.labelcolor": FAINT,
    "ytick.major.size": 0,
}

IDS_OF_GROUPS = re.compile(r' id="[A-Za-z0-9]+_\d+"')
METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
SIZE = re.compile(r'(<svg[^>]*?) width="[^"]*"')
HEIGHT = re.compile(r'(<svg[^>]*?) height="[^"]*"')


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart: `svg` is an element to stand in HTML, `png` a file with a white ground."""

    name: str
    title: str
    caption: str
    svg: str
    png: bytes


def draw(name: str, title: str, caption: str, paint: Callable[[Figure], None], *, height: float) -> Chart:
    """Draw a chart.

    Args:
        name: Tells this chart from the others of the page; a file name without its ending.
        title: Stands above the chart, in the picture.
        caption: Says in words what it shows; plain text.
        paint: Adds axes and marks to the empty figure.
        height: Inches; the width is always 7.6.
    """
    # The salt makes the ids of clip paths repeatable, and different from chart to chart.
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a script that the font lacks: a box stands in its place
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        figure.suptitle(title, x=0.008, ha="left", fontsize=11, fontweight="bold", color=INK)
        paint(figure)
        vector = io.BytesIO()
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
        raster = io.BytesIO()
        figure.savefig(raster, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
    return Chart(name, title, caption, _for_a_page(vector.getvalue().decode(), title), raster.getvalue())


def label(text: str) -> str:
    """Shorten a text from the data to what fits beside an axis."""
    line = " ".join(text.split())
    return line if len(line) <= LABEL_LENGTH else line[: LABEL_LENGTH - 1] + "…"


def bare(axes: Axes) -> None:
    """Take away what a strip without a scale does not need."""
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def _for_a_page(svg: str, title: str) -> str:
    """Leave the element alone: no prologue, no fixed size, no ids that repeat in every chart, colours of the theme."""
    svg = METADATA.sub("", svg[svg.index("<svg") :])
    svg = IDS_OF_GROUPS.sub("", HEIGHT.sub(r"\1", SIZE.sub(r"\1", svg, count=1), count=1))
    for colour, variable in THEMED.items():
        svg = svg.replace(f": {colour}", f": {variable}")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
