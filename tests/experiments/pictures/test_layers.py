"""layers.png."""

from pathlib import Path

from PIL import Image

from emloc import Trace
from experiments.pictures.layers import draw_layers

pytest_plugins = ["tests.support.trace_fixtures"]


def test_picture_is_small_and_readable(trace: Trace, tmp_path: Path) -> None:
    draw_layers(tmp_path / "layers.png", trace, delta=0.005)
    with Image.open(tmp_path / "layers.png") as picture:
        assert 600 <= picture.width <= 1400
        assert len(set(picture.convert("RGB").tobytes())) > 1
    assert (tmp_path / "layers.png").stat().st_size < 100_000
