"""How figures look: a colour and a marker per method, the same in every figure, and files that do not change."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

COLUMN = 3.4  # inches, the width of a column of a two-column paper
# Okabe and Ito's colours without their yellow, which is too faint on white, and a dark red: colour-blind readers can
# tell them apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
LINES = ("-", "--", ":", "-.")
PRUNED = "#D9D9D9"
# A method's look depends on nothing but its name, so that it is the same in every figure, whatever else is drawn. With
# this salt, chosen by trial, the methods that the framework came with have different colours and markers.
_SALT = "49178"
STYLE: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Look:
    """Colour and marker of a method."""

    colour: str
    marker: str


def look(method: str) -> Look:
    """The look of the method of this name."""
    digest = hashlib.sha256(f"{_SALT}{method}".encode()).digest()
    return Look(COLOURS[digest[0] % len(COLOURS)], MARKERS[digest[1] % len(MARKERS)])


def new_figure(rows: int, columns: int = 1, *, width: float = COLUMN, height: float) -> tuple[Figure, Any]:
    """A figure of `rows` x `columns` axes (an array of that shape); sizes in inches. Needs no display.

    Columns share their x axis, rows their y axis.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex="col", sharey="row")


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write `stem`.pdf and `stem`.png; the same figure gives the same bytes, as no time is stored."""
    pdf, png = stem.with_name(f"{stem.name}.pdf"), stem.with_name(f"{stem.name}.png")
    with rc_context(dict(STYLE)):
        figure.savefig(pdf, metadata={"CreationDate": None})
        figure.savefig(png, dpi=220)
    return pdf, png
