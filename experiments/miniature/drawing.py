"""Drawings to learn from and to test on: font characters and random strokes, as small grey images.

Everything is a pure function of its arguments and of a numpy generator. Images are mode "L", 32 x 32, white on black
(the polarity of scikit-learn's handwritten digits). Three sets of classes come from here:

- `training_characters()`: letters and symbols of the DejaVu fonts that come with matplotlib. No digit, nothing that
  Unicode gives a numeric value or writes with a digit, and nothing whose shape is close to a digit, is among them.
- `HELD_OUT_CHARACTERS`: 100 characters kept for testing. Neither they nor any near-duplicate shape (the same outline
  under another code point) is among the training characters, in any font. `choose_held_out` is the rule for them.
- `random_strokes`: classes without number, each of a few random Bezier strokes.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE = 32  # pixels of a finished drawing, both ways
_CANVAS = 64  # drawings are made at twice the size and then reduced
_GLYPH_PIXELS = 64  # nominal font size
FONTS: tuple[str, ...] = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
)  # fmt: skip
_CATEGORIES = ("Lu", "Ll", "Lt", "Lo", "Sm", "Sc", "So", "Po", "Ps", "Pe")
SAME_SHAPE = 0.93  # cosine of two normalised shapes from which on they count as one shape
DIGIT_SHAPE = 0.90  # cosine to a digit from which on a character counts as digit-like
_DISTINCT = 0.80  # held-out characters are less alike than this, pairwise
_HELD_OUT_FONTS = 8  # a held-out character is in at least so many fonts
_HELD_OUT_CATEGORIES = ("Lu", "Ll", "Lo", "Sm")  # letters and mathematical signs; no dot patterns, no box drawing

HELD_OUT_CHARACTERS: tuple[str, ...] = tuple(
    "=vÆƇƙƝƢƾȜɀɁɆɊɌɝɢɤɧʕʞʣʦʭͳΚΞϟЊАднъыюјѤѰҗқңҭһӌӷԷՉՌէխմປႥႨჃთძჯᴗᴞẞ⅃⅄ↄ↓⇸∓√∝∷≛≞≦≿⊋⊍⊏⊐⊔⊟⊢⊲⋄⋎⋟⋧⎡⥁⩪ⱱⴀⴈⴐⴓⴔⴡⴤꙄꙑꜲꜼ"
)


@cache
def _font_path(font: str) -> Path:
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"


@cache
def _coverage(font: str) -> frozenset[int]:
    """Code points that `font` has a glyph for."""
    from fontTools.ttLib import TTFont

    with TTFont(_font_path(font), lazy=True) as file:
        return frozenset(file.getBestCmap())


def fonts_with(character: str) -> tuple[str, ...]:
    """The names among `FONTS` that have a glyph for `character`."""
    return tuple(font for font in FONTS if ord(character) in _coverage(font))


@cache
def _truetype(font: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_path(font), _GLYPH_PIXELS, layout_engine=ImageFont.Layout.BASIC)


@cache
def glyph(character: str, font: str) -> Image.Image:
    """The character's ink, cropped to its bounding box (mode "L"; 1 x 1 black when there is no ink)."""
    canvas = Image.new("L", (4 * _GLYPH_PIXELS, 3 * _GLYPH_PIXELS))
    ImageDraw.Draw(canvas).text((_GLYPH_PIXELS, _GLYPH_PIXELS // 2), character, fill=255, font=_truetype(font))
    box = canvas.getbbox()
    return canvas.crop(box) if box else Image.new("L", (1, 1))


# ---- which characters -------------------------------------------------------------------------------------------


def is_digit_like(character: str) -> bool:
    """True for digits and numbers of any script, and for characters that Unicode composes with a digit."""
    if unicodedata.category(character) in ("Nd", "No", "Nl") or unicodedata.numeric(character, None) is not None:
        return True
    if any(unicodedata.category(part) in ("Nd", "No", "Nl") for part in unicodedata.normalize("NFKD", character)):
        return True
    return any(word in unicodedata.name(character, "").split() for word in ("DIGIT", "NUMBER", "TONE"))


@cache
def _candidates() -> tuple[str, ...]:
    """Characters of the letter and symbol categories, in two fonts or more, that are not digits by Unicode's word."""
    points = (chr(i) for i in range(33, 0x10000) if unicodedata.category(chr(i)) in _CATEGORIES)
    return tuple(c for c in points if len(fonts_with(c)) >= 2 and not is_digit_like(c))


def shape(character: str, font: str = "") -> NDArray[np.float32]:
    """The character's shape, (400,), of length 1: ink scaled to fill a 20 x 20 square, a little blurred."""
    ink = glyph(character, font or fonts_with(character)[0])
    scale = 18 / max(ink.size)
    small = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BOX)
    square = Image.new("L", (20, 20))
    square.paste(small, ((20 - small.width) // 2, (20 - small.height) // 2))
    values = np.asarray(square.filter(ImageFilter.GaussianBlur(1)), dtype=np.float32).ravel()
    return values / (np.linalg.norm(values) + 1e-6)


@cache
def _shapes() -> NDArray[np.float32]:
    """Shapes of all candidates, (candidates, 400)."""
    return np.stack([shape(c) for c in _candidates()])


def _near_digits(shapes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of `shapes` are close to a digit's shape in any font, (n,)."""
    digits = np.stack([shape(d, font) for d in "0123456789" for font in FONTS])
    return (shapes @ digits.T).max(axis=1) > DIGIT_SHAPE


def _order(character: str) -> bytes:
    return hashlib.sha256(character.encode()).digest()


@cache
def choose_held_out(count: int = 100) -> tuple[str, ...]:
    """The rule for `HELD_OUT_CHARACTERS`: letters and mathematical signs without decomposition, in at least 8
    fonts, not digit-like, taken in the order of their SHA-256, skipping those too like one taken before."""
    characters, shapes, near = _candidates(), _shapes(), _near_digits(_shapes())
    chosen: list[int] = []
    for index in sorted(range(len(characters)), key=lambda i: _order(characters[i])):
        character = characters[index]
        common = len(fonts_with(character)) >= _HELD_OUT_FONTS and not unicodedata.decomposition(character)
        if near[index] or not common or unicodedata.category(character) not in _HELD_OUT_CATEGORIES:
            continue
        if not chosen or (shapes[chosen] @ shapes[index]).max() < _DISTINCT:
            chosen.append(index)
        if len(chosen) == count:
            break
    return tuple(characters[i] for i in sorted(chosen))


@cache
def training_characters() -> tuple[str, ...]:
    """Candidates close to no held-out character in any font, and not digit-like; near-duplicates once."""
    characters, shapes = _candidates(), _shapes()
    held_out = np.stack([shape(c, font) for c in HELD_OUT_CHARACTERS for font in fonts_with(c)])
    free = ((shapes @ held_out.T).max(axis=1) < SAME_SHAPE) & ~_near_digits(shapes)
    kept: list[int] = []
    for index in np.flatnonzero(free):
        if not kept or (shapes[kept] @ shapes[index]).max() < SAME_SHAPE:
            kept.append(int(index))
    return tuple(characters[i] for i in kept)


# ---- drawing ----------------------------------------------------------------------------------------------------


def _warp(ink: Image.Image, rng: np.random.Generator, degrees: float = 15.0) -> Image.Image:
    """Ink of any size -> 32 x 32 drawing: random rotation, slant, aspect, size and shift."""
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    slant, aspect = rng.uniform(-0.25, 0.25), np.exp(rng.uniform(-0.22, 0.22))
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = rotate @ np.array([[1.0, slant], [0.0, 1.0]]) @ np.diag([aspect, 1 / aspect])
    half = np.abs(forward) @ np.array([ink.width, ink.height]) / 2
    forward *= _CANVAS / 2 * rng.uniform(0.70, 0.98) / half.max()
    room = np.maximum(0, _CANVAS / 2 - np.abs(forward) @ np.array([ink.width, ink.height]) / 2)
    centre = _CANVAS / 2 + rng.uniform(-0.5, 0.5, 2) * np.minimum(room, 10)
    back = np.linalg.inv(forward)
    offset = np.array([ink.width, ink.height]) / 2 - back @ centre
    matrix = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    canvas = ink.transform((_CANVAS, _CANVAS), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return canvas.reduce(_CANVAS // SIDE)


def draw_character(character: str, rng: np.random.Generator, *, font: str | None = None) -> Image.Image:
    """One drawing of `character`, 32 x 32, mode "L", white on black.

    `font` is one of `FONTS`; without it, a font that has the glyph is drawn at random.
    """
    fonts = fonts_with(character)
    if not fonts or (font is not None and font not in fonts):
        raise ValueError(f"no glyph for {character!r} in {font or 'any of FONTS'}; fonts that have it: {fonts}")
    return _warp(glyph(character, font or fonts[int(rng.integers(len(fonts)))]), rng)


Strokes = tuple[NDArray[np.float64], ...]  # each (4, 2): the control points of one cubic Bezier curve, in [0, 1]


def random_strokes(rng: np.random.Generator) -> Strokes:
    """A class of its own: one to four strokes; half of the time each goes on where the last one ended."""
    joined = rng.random() < 0.5
    strokes: list[NDArray[np.float64]] = []
    for index in range(int(rng.integers(1, 5))):
        points = rng.uniform(0, 1, (4, 2))
        if joined and index:
            points[0] = strokes[-1][-1]
        strokes.append(points)
    return tuple(strokes)


def draw_strokes(strokes: Strokes, rng: np.random.Generator) -> Image.Image:
    """One drawing of a stroke class, 32 x 32: control points jittered, random pen, then warped as characters are."""
    size, width = 3 * _CANVAS, int(rng.integers(8, 26))
    ink = Image.new("L", (size, size))
    pen = ImageDraw.Draw(ink)
    t = np.linspace(0, 1, 24)[:, None]
    for stroke in strokes:
        a, b, c, d = stroke + rng.normal(0, 0.035, (4, 2))
        curve = a * (1 - t) ** 3 + 3 * b * t * (1 - t) ** 2 + 3 * c * t**2 * (1 - t) + d * t**3
        points = [tuple(p) for p in (0.15 + 0.7 * curve) * size]
        pen.line(points, fill=255, width=width, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    box = ink.getbbox() or (0, 0, 1, 1)
    return _warp(ink.crop(box), rng)


def blur(image: Image.Image, side: int) -> Image.Image:
    """Down to `side` x `side` pixels (each the mean of what it covers): a handwritten digit's detail."""
    return image.resize((side, side), Image.Resampling.BOX)


def thicken(image: Image.Image, pixels: int) -> Image.Image:
    """Strokes made thicker by a maximum filter of `pixels` (odd) width."""
    return image.filter(ImageFilter.MaxFilter(pixels))


def sheet(images: Sequence[Image.Image], columns: int = 20) -> Image.Image:
    """Drawings side by side, for a look at them (each enlarged to 64 x 64)."""
    rows = -(-len(images) // columns)
    whole = Image.new("L", (columns * 66, rows * 66), 64)
    for i, image in enumerate(images):
        whole.paste(image.resize((64, 64)), (i % columns * 66, i // columns * 66))
    return whole


if __name__ == "__main__":
    sys.stdout.write("".join(choose_held_out()) + "\n")
