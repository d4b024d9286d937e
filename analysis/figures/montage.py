"""kept.png: demonstrations' images, as they are and painted with what the layers keep of them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.figures.kept_tokens import TILE, Kept, painted

_COLUMNS = 8  # layers that have room on a narrow page
_GAP = 6  # pixels between the images
_APART = 24  # pixels between an original and its first layer
_LEFT, _TOP = 150, 152  # pixels left of the images, and above them
_TEXT = 26  # pixels, the height of the text: it can be read where the sheet is shown at a third of its size
_ANSWER = 9  # characters of an answer that fit on a line beside its image
_INK = "#333333"
_MIDDLE = "#888888"  # of the samples in the legend
_SHARES = {"kept": 1.0, "by half of the KV heads": 0.5, "pruned": 0.0}


def montage(kept: Kept, shown: Sequence[int], title: str) -> Image.Image | None:
    """One demonstration per row: its answer, its image, and what layers keep of it; None if there are no images.

    Of more than eight layers, eight are shown, evenly spaced, and a line says so.
    """
    numbers = [number for number in shown if number in kept.images]
    if not numbers:
        return None
    layers = shown_layers(kept.layers)
    width = max(_left(len(layers)), _length(title) + 2 * _GAP, _legend_width())
    sheet = Image.new("RGB", (width, _TOP + (TILE + _GAP) * len(numbers)), "white")
    draw = ImageDraw.Draw(sheet)
    _write_heads(draw, kept.layers, layers, title)
    _draw_legend(sheet, draw)
    for row, number in enumerate(numbers):
        top = _TOP + (TILE + _GAP) * row
        answer = "\n".join(textwrap.wrap(kept.answer(number) or f"{number}", _ANSWER, max_lines=3, placeholder="..."))
        draw.multiline_text((_LEFT - 2 * _GAP, top + TILE / 2), answer, _INK, _font(), anchor="rm", align="right")
        sheet.paste(kept.original(number), (_LEFT, top))
        for column, layer in enumerate(layers):
            sheet.paste(kept.tile(number, layer), (_left(column), top))
    return sheet


def shown_layers(layers: int) -> list[int]:
    """All of them, or eight from the lowest to the highest."""
    return [int(layer) for layer in np.linspace(0, layers - 1, min(layers, _COLUMNS)).round()]


def _left(column: int) -> int:
    """Where a layer's column begins: right of the originals."""
    return _LEFT + TILE + _APART + (TILE + _GAP) * column


def _write_heads(draw: ImageDraw.ImageDraw, layers: int, shown: Sequence[int], title: str) -> None:
    def write(at: tuple[float, float], text: str, anchor: str) -> None:
        draw.text(at, text, fill=_INK, font=_font(), anchor=anchor)

    write((_GAP, _GAP), title, "la")
    few = f"{len(shown)} of {layers} layers" if len(shown) < layers else "layer"
    write((_left(0), _TOP - 2 * _TEXT), f"{few} (0 is the lowest)", "ls")
    write((_LEFT + TILE / 2, _TOP - _GAP), "image", "ms")
    for column, layer in enumerate(shown):
        write((_left(column) + TILE / 2, _TOP - _GAP), f"{layer}", "ms")


def _draw_legend(sheet: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    """A sample of grey for every share of a token's KV heads, with its name."""
    at, top = _GAP, _GAP + _TEXT + 2 * _GAP
    for name, share in _SHARES.items():
        sample = painted(Image.new("RGB", (_TEXT, _TEXT), _MIDDLE), np.full((1, 1), share))
        sheet.paste(sample, (at, top))
        draw.rectangle((at, top, at + _TEXT, top + _TEXT), outline=_MIDDLE)
        draw.text((at + _TEXT + _GAP, top), name, fill=_INK, font=_font())
        at += _TEXT + 4 * _GAP + _length(name)


def _legend_width() -> int:
    return _GAP + sum(_TEXT + 4 * _GAP + _length(name) for name in _SHARES)


def _font() -> ImageFont.FreeTypeFont:
    # The font of the other figures.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", _TEXT - 4)


def _length(text: str) -> int:
    return int(_font().getlength(text)) + 1
