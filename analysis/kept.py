"""What a run kept: its demonstrations' images with the surviving visual tokens, and their text, layer by layer.

    python -m analysis.kept RUN_FOLDER [--out FOLDER] [--demonstrations 12]

The run must have been made with save_kept=true, which leaves kept.npz. Writes kept.html, which is self-contained, and
kept.png, the images alone; the last line printed is the path of the page.
"""

import argparse
import base64
import html
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from analysis.figures.kept_tokens import KINDS, Kept
from analysis.figures.montage import montage
from analysis.figures.style import COLOURS
from experiments.records.files import KEPT

_STYLE = """
body { font: 14px/1.5 sans-serif; margin: 2em; max-width: 110em }
.tiles { display: flex; flex-wrap: wrap; gap: 4px } figure { margin: 0; text-align: center; font-size: 11px }
.tokens { margin: .6em 0 1.8em } .tokens span { padding: 1px 0; white-space: pre-wrap; border-radius: 2px }
.answer { border-bottom: 2px solid #333 } .scale span { display: inline-block; width: 2.2em; text-align: center }
"""


def page(kept: Kept, shown: Sequence[int], title: str) -> str:
    """The HTML page of the demonstrations `shown`."""
    parts = "\n".join(_demonstration(kept, number) for number in shown)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n"
        "<p>Images: as it is, then one per layer, from the lowest (0) up. "
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
    tiles = []
    if number in kept.images:
        painted = [_figure(kept.tile(number, layer), f"layer {layer}") for layer in range(kept.layers)]
        tiles = [_figure(kept.original(number), "image"), *painted]
    spans = "".join(_span(kept, token) for token in kept.tokens(number, visual=False))
    return f'<h2>Demonstration {number}</h2>\n<div class="tiles">{"".join(tiles)}</div>\n<p class="tokens">{spans}</p>'


def _figure(image: Image.Image, caption: str) -> str:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    picture = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _span(kept: Kept, token: int) -> str:
    """A token's text, coloured by the number of layers that keep it; a layer counts by the share of its KV heads."""
    count = float(kept.share[:, token].sum())
    kind = KINDS[kept.kinds[token]]
    text = html.escape(kept.texts[token]).replace("\n", "⏎\n")
    return (
        f'<span class="{kind}" style="background:{_shade(count / kept.layers)}" '
        f'title="{kind}: {count:g} of {kept.layers} layers">{text}</span>'
    )


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
