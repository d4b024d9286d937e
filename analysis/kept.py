"""What a run kept: its demonstrations' images with the surviving visual tokens, and their text, layer by layer.

    python -m analysis.kept RUN_FOLDER [--out FOLDER] [--demonstrations 12]

The run must have been made with save_kept=true, which leaves kept.npz. Writes kept.html, which is self-contained, and
kept.png, the images alone; the last line printed is the path of the page.
"""

import argparse
import base64
import html
import io
import math
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.figures.style import COLOURS
from experiments.records.files import KEPT

_KINDS = ("question", "image", "answer")  # the index is the number in `kinds`
_TILE = 96  # pixels, the longer side of an image in the page
_GAP = 4  # pixels between the images of kept.png
_MARGIN = (52, 62)  # pixels left of the images of kept.png, and above them
_TEXT = 13  # pixels, the height of the text
_INK = "#333333"
_FADED = 0.9  # how much of a pruned token's pixels turns white
_TINTED = 0.35  # and of a kept one's blue, so that it shows on white, too
_STYLE = """
body { font: 14px/1.5 sans-serif; margin: 2em; max-width: 110em }
.tiles { display: flex; flex-wrap: wrap; gap: 4px } figure { margin: 0; text-align: center; font-size: 11px }
.tokens { margin: .6em 0 1.8em } .tokens span { padding: 1px 0; white-space: pre-wrap; border-radius: 2px }
.answer { border-bottom: 2px solid #333 } .scale span { display: inline-block; width: 2.2em; text-align: center }
"""


@dataclass(frozen=True)
class Kept:
    """The content of kept.npz; `share` (L, N) is the share of a layer's KV heads that kept a token."""

    share: np.ndarray
    texts: list[str]
    kinds: np.ndarray  # (N,)
    owners: np.ndarray  # (N,)
    grids: np.ndarray  # (D, 2) rows and columns; 0, 0 if they are not known
    images: dict[int, Image.Image]  # by demonstration

    @classmethod
    def read(cls, path: Path) -> "Kept":
        """Read the file; ValueError, KeyError, OSError or BadZipFile if there is none or it is damaged."""
        with path.open("rb") as file, np.load(file) as stored:
            kinds = stored["kinds"]
            bits = np.unpackbits(stored["kept"], axis=-1, count=len(kinds))
            named = {int(name.removeprefix("image_")): name for name in stored.files if name.startswith("image_")}
            images = {number: _opened(stored[name]) for number, name in sorted(named.items())}
            texts = [str(text) for text in stored["texts"]]
            return cls(bits.mean(axis=1), texts, kinds, stored["owners"], stored["grids"], images)

    @property
    def layers(self) -> int:
        """L."""
        return len(self.share)

    def tokens(self, demonstration: int, *, visual: bool) -> np.ndarray:
        """Numbers of the demonstration's visual tokens, or of all others."""
        is_visual = self.kinds == _KINDS.index("image")
        return np.flatnonzero((self.owners == demonstration) & (is_visual == visual))

    def tile(self, demonstration: int, layer: int) -> Image.Image:
        """The image: kept tokens blue, the others faded; all of it by their mean if their places are not known."""
        shares = self.share[layer, self.tokens(demonstration, visual=True)]
        rows, columns = self.grids[demonstration]
        shares = shares.reshape(rows, columns) if rows else np.full((1, 1), shares.mean() if len(shares) else 0.0)
        image = self.images[demonstration]
        scale = _TILE / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.NEAREST)
        tinted = _covered(image, COLOURS[0], _TINTED * shares)
        return _covered(tinted, "white", _FADED * (1 - shares))


def _covered(image: Image.Image, colour: str, parts: np.ndarray) -> Image.Image:
    """The image under a colour, which covers it by `parts` (rows, columns), from 0 to 1."""
    mask = Image.fromarray(np.uint8(255 * parts)).resize(image.size, Image.Resampling.NEAREST)
    return Image.composite(Image.new("RGB", image.size, colour), image, mask)


def _opened(data: np.ndarray) -> Image.Image:
    return Image.open(io.BytesIO(data.tobytes())).convert("RGB")


def page(kept: Kept, shown: Sequence[int], title: str) -> str:
    """The HTML page of the demonstrations `shown`."""
    parts = "\n".join(_demonstration(kept, number) for number in shown)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n<p>Images: one per layer, from the lowest (0) up. "
        f"Kept tokens are blue, pruned ones are faded, in proportion to the KV heads that kept or pruned them. "
        f"Text: the darker a token, the more of the {kept.layers} layers keep it. Answers are underlined.</p>\n"
        f"{_scale(kept.layers)}\n{parts}\n</html>\n"
    )


def _scale(layers: int) -> str:
    cells = "".join(f'<span style="background:{_shade(count / layers)}">{count}</span>' for count in range(layers + 1))
    return f'<p class="scale">layers that keep a token: {cells}</p>'


def _shade(part: float) -> str:
    red, green, blue = (int(COLOURS[0][at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{0.8 * part:.3f})"


def _demonstration(kept: Kept, number: int) -> str:
    tiles = (
        [_figure(kept.tile(number, layer), f"{layer}") for layer in range(kept.layers)] if number in kept.images else []
    )
    spans = "".join(_span(kept, token) for token in kept.tokens(number, visual=False))
    return f'<h2>Demonstration {number}</h2>\n<div class="tiles">{"".join(tiles)}</div>\n<p class="tokens">{spans}</p>'


def _figure(image: Image.Image, caption: str) -> str:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    picture = f'<img src="data:image/png;base64,{data}" alt="layer {caption}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _span(kept: Kept, token: int) -> str:
    """A token's text, coloured by the number of layers that keep it; a layer counts by the share of its KV heads."""
    count = float(kept.share[:, token].sum())
    kind = _KINDS[kept.kinds[token]]
    text = html.escape(kept.texts[token]).replace("\n", "⏎\n")
    return (
        f'<span class="{kind}" style="background:{_shade(count / kept.layers)}" '
        f'title="{kind}: {count:g} of {kept.layers} layers">{text}</span>'
    )


def montage(kept: Kept, shown: Sequence[int], title: str) -> Image.Image | None:
    """The images alone, one demonstration per row and one layer per column; None if there are no images."""
    numbers = [number for number in shown if number in kept.images]
    if not numbers:
        return None
    (left, top), step = _MARGIN, _TILE + _GAP
    width, height = left + step * kept.layers, top + step * len(numbers)
    sheet = Image.new("RGB", (max(width, 2 * _GAP + _length(title)), height), "white")
    for row, column in np.ndindex(len(numbers), kept.layers):
        sheet.paste(kept.tile(numbers[row], column), (left + step * column, top + step * row))
    _label(sheet, kept.layers, numbers, title)
    return sheet


def _label(sheet: Image.Image, layers: int, numbers: Sequence[int], title: str) -> None:
    """The title, layers along the top, demonstrations' numbers on the left."""
    (left, top), step, draw = _MARGIN, _TILE + _GAP, ImageDraw.Draw(sheet)
    middle = left + (step * layers - _GAP) / 2

    def write(at: tuple[float, float], text: str, anchor: str) -> None:
        draw.text(at, text, fill=_INK, font=_font(), anchor=anchor)

    write((_GAP, _GAP), title, "la")
    write((middle, top - 26), "layer (0 is the lowest)" if layers > 1 else "layer", "ms")
    for layer in range(layers):
        write((left + step * layer + _TILE / 2, top - 8), f"{layer}", "ms")
    for row, number in enumerate(numbers):
        write((left - 8, top + step * row + _TILE / 2), f"{number}", "rm")
    side = Image.new("RGB", (_length("demonstration"), _TEXT + _GAP), "white")
    ImageDraw.Draw(side).text((0, 0), "demonstration", fill=_INK, font=_font())
    turned = side.rotate(90, expand=True)
    sheet.paste(turned, (_GAP, top + max(0, (step * len(numbers) - _GAP - turned.height) // 2)))


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT)


def _length(text: str) -> int:
    return math.ceil(_font().getlength(text))


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 if there is nothing to show, or nothing can be written."""
    parser = argparse.ArgumentParser(prog="python -m analysis.kept", description="What a run kept of its context.")
    parser.add_argument("run", type=Path, help="the folder of a run made with save_kept=true")
    parser.add_argument("--out", type=Path, help="where the files go (default: the run's folder)")
    parser.add_argument("--demonstrations", type=int, default=12, help="how many to show, from the first on")
    options = parser.parse_args(arguments)
    try:
        kept = Kept.read(options.run / KEPT)
        path = _write(kept, options.out or options.run, options.run.resolve().name, options.demonstrations)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = f"{options.run / KEPT} cannot be shown ({error})"
        print(f"Expected the folder of a run made with save_kept=true, but {reason}.", file=sys.stderr)
        return 1
    print(path)
    return 0


def _write(kept: Kept, folder: Path, title: str, count: int) -> Path:
    shown = range(min(max(count, 0), len(kept.grids)))
    folder.mkdir(parents=True, exist_ok=True)
    sheet = montage(kept, shown, title)
    if sheet is not None:
        sheet.save(folder / "kept.png")
    path = folder / "kept.html"
    path.write_text(page(kept, shown, title), encoding="utf-8")
    return path


if __name__ == "__main__":
    raise SystemExit(main())
