"""What all figures have in common, those of the runner and those of the analysis: width, colours, letters and lines."""

from collections.abc import Mapping
from typing import Any

COLUMN = 3.4  # inches, the width of a column of a two-column paper, and about that of a phone
DPI = 220
# Okabe and Ito's colours without their yellow, which is too faint on white, and a dark red: colour-blind readers can
# tell them apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#882255")
STYLE: Mapping[str, Any] = {  # parameters of matplotlib
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
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
