"""How figures look: a colour and a marker per method, the same in every figure, and files that do not change.

Sizes are for a column of a paper, which is also the width of a phone: 7 points are then about 10 pixels. Without colour
markers and dashes tell methods apart; the filling of a marker tells which scores a method's tokens were chosen by.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.figure import Figure

from experiments.records.look import COLOURS, COLUMN, DPI, STYLE
from experiments.records.names import USUAL

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
LINES = ("-", "--", ":", "-.")
PRUNED = "#D9D9D9"
KEPT = "#444444"  # in a legend that is about several methods
# A method's look depends on nothing but its name, so that it is the same in every figure, whatever else is drawn. With
# this salt, chosen by trial, the methods that the framework came with have different colours and markers.
_SALT = "49178"
_FILLS = ("none", "left", "bottom", "right", "top")
_FILL_SALT = "88"  # "answers", the importance that is most often lent to other methods, gives hollow markers


@dataclass(frozen=True)
class Look:
    """Colour and marker of a method, and which part of the marker is filled (a fill style of matplotlib)."""

    colour: str
    marker: str
    fill: str = "full"

    @property
    def marks(self) -> dict[str, Any]:
        """The options of matplotlib's lines for it."""
        # White instead of "none", so that no line or bar shows through.
        hollow = {"markerfacecolor": "white"} if self.fill == "none" else {"fillstyle": self.fill}
        return {"color": self.colour, "marker": self.marker, "markerfacecoloralt": "white", **hollow}


def look(method: str, importance: str = "") -> Look:
    """The look of the method of this name: of its usual importance, unless another one is named."""
    digest = hashlib.sha256(f"{_SALT}{method}".encode()).digest()
    usual = USUAL.get(method, {}).get("importance", importance)
    fill = "full" if importance in ("", usual) else _fill(importance)
    return Look(COLOURS[digest[0] % len(COLOURS)], MARKERS[digest[1] % len(MARKERS)], fill)


def _fill(importance: str) -> str:
    return _FILLS[hashlib.sha256(f"{_FILL_SALT}{importance}".encode()).digest()[0] % len(_FILLS)]


def new_figure(
    rows: int, columns: int = 1, *, height: float, sharey: Literal["row", "col"] = "row"
) -> tuple[Figure, Any]:
    """A figure of `rows` x `columns` axes (an array of that shape), as wide as a column. Needs no display.

    height: inches. Columns share their x axis; the y axis is shared by each "row" or "col".
    """
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex="col", sharey=sharey)


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write `stem`.pdf and `stem`.png; the same figure gives the same bytes, as no time is stored."""
    pdf, png = stem.with_name(f"{stem.name}.pdf"), stem.with_name(f"{stem.name}.png")
    with rc_context(dict(STYLE)):
        figure.savefig(pdf, metadata={"CreationDate": None})
        figure.savefig(png, dpi=DPI)
    return pdf, png
