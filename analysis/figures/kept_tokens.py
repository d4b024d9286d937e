"""Which tokens of its context a run kept, and a demonstration's image painted with that."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from analysis.figures.style import COLOURS

KINDS = ("question", "image", "answer")  # the index is the number in `kinds`
TILE = 96  # pixels, the longer side of an image
_FADED = 0.9  # how much of a pruned token's pixels turns white
_TINTED = 0.35  # and of a kept one's blue, so that it shows on white, too
_MARKER = re.compile(r"<[^>]*>|\s+")  # of a chat


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
        is_visual = self.kinds == KINDS.index("image")
        return np.flatnonzero((self.owners == demonstration) & (is_visual == visual))

    def tile(self, demonstration: int, layer: int) -> Image.Image:
        """The image: kept tokens blue, the others faded; all of it by their mean if their places are not known."""
        shares = self.share[layer, self.tokens(demonstration, visual=True)]
        rows, columns = self.grids[demonstration]
        shares = shares.reshape(rows, columns) if rows else np.full((1, 1), shares.mean() if len(shares) else 0.0)
        return painted(self.original(demonstration), shares)

    def original(self, demonstration: int) -> Image.Image:
        """The image as it is, in the size of a tile."""
        image = self.images[demonstration]
        scale = TILE / max(image.size)
        return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.NEAREST)

    def answer(self, demonstration: int) -> str:
        """The text of the demonstration's answer, without the markers of the chat."""
        tokens = np.flatnonzero((self.owners == demonstration) & (self.kinds == KINDS.index("answer")))
        return _MARKER.sub(" ", "".join(self.texts[token] for token in tokens)).strip()


def painted(image: Image.Image, shares: np.ndarray) -> Image.Image:
    """The image, blue where tokens are kept and faded where they are pruned; `shares` (rows, columns) of KV heads."""
    tinted = _covered(image, COLOURS[0], _TINTED * shares)
    return _covered(tinted, "white", _FADED * (1 - shares))


def _covered(image: Image.Image, colour: str, parts: np.ndarray) -> Image.Image:
    """The image under a colour, which covers it by `parts` (rows, columns), from 0 to 1."""
    mask = Image.fromarray(np.uint8(255 * parts)).resize(image.size, Image.Resampling.NEAREST)
    return Image.composite(Image.new("RGB", image.size, colour), image, mask)


def _opened(data: np.ndarray) -> Image.Image:
    return Image.open(io.BytesIO(data.tobytes())).convert("RGB")
