"""kept.npz and its picture: what is stored is what the memory holds, and the picture shows it."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.figures.kept_tokens import TILE, Kept, painted
from analysis.figures.montage import montage, shown_layers
from analysis.kept import main, page
from emloc import Demonstration, EMLoCVideo, LayerSearch, Memory, NoPruning, Query, Video, load_backbone
from emloc.prompt import TokenKind
from experiments.records.files import KEPT, MEMORY
from experiments.running.images import Watched
from experiments.running.kept import write_kept
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import execute
from tests.support.videos import number_of, write_video

pytest_plugins = ["tests.support.run_fixtures"]


def small(shares: list[list[float]]) -> Kept:
    """Two layers that keep these parts of a white 2 x 2 image's tokens, and all text."""
    share = np.concatenate([np.array(shares), np.ones((2, 2))], axis=1)
    image = Image.new("RGB", (8, 8), "black")
    kinds = np.array([TokenKind.IMAGE] * 4 + [TokenKind.QUESTION, TokenKind.ANSWER])
    texts = ["", "", "", "", "<what>", "yes"]
    return Kept(share, texts, kinds, np.zeros(6, int), np.array([[2, 2]]), {0: image})


@pytest.mark.parametrize("method", ["emloc", "snapkv"])
def test_stored_tokens_are_those_in_memory(options: list[str], checkpoint: Path, tmp_path: Path, method: str) -> None:
    record = execute(*options, f"method={method}", "save_kept=true", "save_memory=true")
    kept = Kept.read(tmp_path / "run" / KEPT)
    assert kept.share.shape == (2, record.context.tokens_full)
    assert kept.share.sum(1).tolist() == pytest.approx(record.context.tokens_kept_per_layer)
    memory = Memory.load(tmp_path / "run" / MEMORY, load_backbone(checkpoint, device="cpu"))
    with np.load(tmp_path / "run" / KEPT) as stored:
        bits = np.unpackbits(stored["kept"], axis=-1, count=record.context.tokens_full)
    for number, layer in enumerate(memory.layers):
        assert [np.flatnonzero(head).tolist() for head in bits[number]] == layer.index.tolist()
        counts = np.bincount(layer.index.flatten().numpy(), minlength=record.context.tokens_full)
        assert np.array_equal(kept.share[number], counts / 2)


def test_tokens_are_told_apart(options: list[str], tmp_path: Path) -> None:
    execute(*options, "save_kept=true")
    kept = Kept.read(tmp_path / "run" / KEPT)
    assert set(kept.owners) == {-1, 0, 1, 2, 3, 4, 5}
    assert "".join(kept.texts[at] for at in np.flatnonzero(kept.owners == -1)).startswith("<|im_start|>system")
    for number in range(6):
        text = "".join(kept.texts[at] for at in kept.tokens(number, visual=False))
        assert re.search(r"What is this\?<\|im_end\|>\n<\|im_start\|>assistant\n(cat|dog)<\|im_end\|>\n$", text)
        assert len(kept.tokens(number, visual=True)) == 4
        assert tuple(kept.grids[number]) == (2, 2)
        assert kept.images[number].size == (16, 16)


def test_a_video_is_shown_step_below_step(tmp_path: Path) -> None:
    """Six frames are three steps; the picture has each one's first frame, and as many rows of tokens."""
    backbone = load_backbone(make_checkpoint(tmp_path / "model", visual_tokens=6), device="cpu")
    path = write_video(tmp_path / "a.mp4", 6, size=(48, 32))
    demos = [Demonstration(Video(path, 6), "What?", "this"), Demonstration(Video(path, 1), "What?", "that")]
    write_kept(tmp_path / KEPT, NoPruning().trace(backbone, demos), Watched(demos), backbone)
    kept = Kept.read(tmp_path / KEPT)
    assert kept.grids.tolist() == [[3 * 2, 3], [2, 3]]
    assert [len(kept.tokens(number, visual=True)) for number in (0, 1)] == [18, 6]
    assert kept.images[0].size == (48, 3 * 32)
    steps = [kept.images[0].crop((0, 32 * step, 48, 32 * step + 32)) for step in range(3)]
    assert [number_of(step) for step in steps] == [0, 2, 4]
    assert kept.tile(0, 0).size == (48, 96)


def test_a_condensed_video_is_shown_without_the_context_before_it(tmp_path: Path) -> None:
    backbone = load_backbone(make_checkpoint(tmp_path / "model", visual_tokens=6), device="cpu")
    video = Video(write_video(tmp_path / "a.mp4", 8, size=(48, 32)), 8)
    method = EMLoCVideo(allocation=LayerSearch(ratios=(0.2,), delta=0.6), window=4)
    before = method.compress(backbone, [Demonstration(None, "What?", "this")])
    trace, _ = method.condense(backbone, Query(video, "Why?"), before)
    write_kept(tmp_path / KEPT, trace, Watched([Demonstration(video, "", "")]), backbone)
    kept = Kept.read(tmp_path / KEPT)
    assert kept.share.shape[1] == len(trace.raw) == len(kept.kinds)
    assert kept.grids.tolist() == [[4 * 2, 3]]
    kept_tokens = [length - before.tokens_seen for length in trace.memory.lengths]
    assert kept.share.sum(1).tolist() == pytest.approx(kept_tokens)
    assert max(kept_tokens) < len(trace.raw)


def test_a_finished_run_is_compressed_again_for_it(options: list[str], tmp_path: Path, answered: list[str]) -> None:
    execute(*options)
    execute(*options, "save_kept=true")
    written = (tmp_path / "run" / KEPT).stat().st_mtime_ns
    execute(*options, "save_kept=true")
    assert (tmp_path / "run" / KEPT).stat().st_mtime_ns == written
    assert len(answered) == 12


def test_without_demonstrations_there_is_nothing_to_show(options: list[str], tmp_path: Path) -> None:
    execute(*[option for option in options if "chunk_size" not in option], "method=zero_shot", "save_kept=true")
    assert main([str(tmp_path / "run")]) == 0
    assert "<figure>" not in (tmp_path / "run" / "kept.html").read_text()


def test_pruned_parts_of_an_image_are_faded() -> None:
    kept = small([[1, 0, 0.5, 1], [1, 1, 1, 1]])
    tile = np.asarray(kept.tile(0, 0))
    assert tile.shape == (96, 96, 3)
    corners = [int(tile[row, column, 0]) for row in (10, 80) for column in (10, 80)]
    assert corners[0] == corners[3] == 0
    assert corners[1] == pytest.approx(0.9 * 255, abs=1)
    assert corners[2] == pytest.approx(0.45 * 255, abs=1)
    assert np.unique(np.asarray(kept.tile(0, 1)).reshape(-1, 3), axis=0).tolist() == [[0, 40, 62]]


def test_text_is_coloured_by_the_layers_that_keep_it() -> None:
    kept = small([[1, 0, 0.5, 1], [1, 1, 1, 1]])
    kept.share[0, 4] = 0.5
    text = page(kept, [0], "a <run>")
    assert '<span class="question" style="background:rgba(0,114,178,0.600)" title="question: 1.5 of 2 layers">' in text
    assert '<span class="answer" style="background:rgba(0,114,178,0.800)" title="answer: 2 of 2 layers">yes' in text
    assert "&lt;what&gt;" in text
    assert "a &lt;run&gt;" in text
    assert text.count("<figure>") == 1 + 2  # as it is, and both layers
    assert "http" not in text


def test_unknown_places_fade_the_whole_image() -> None:
    kept = small([[1, 0, 0, 0], [1, 1, 1, 1]])
    kept.grids[:] = 0
    assert np.unique(np.asarray(kept.tile(0, 0))[..., 0]).tolist() == [int(255 * 0.9 * 0.75)]


def inked(sheet: Image.Image, left: int, top: int, right: int, bottom: int) -> bool:
    """Whether something is written in that part of a sheet."""
    return np.asarray(sheet.crop((left, top, right, bottom)).convert("L")).min() < 128


def found(sheet: Image.Image, tile: Image.Image) -> list[tuple[int, int]]:
    """Where on a sheet a tile is, pixel by pixel."""
    everything, wanted = np.asarray(sheet), np.asarray(tile)
    height, width = wanted.shape[:2]
    corners = np.argwhere((everything[: 1 - height, : 1 - width] == wanted[0, 0]).all(axis=2)).tolist()
    return [
        (left, top) for top, left in corners if (everything[top : top + height, left : left + width] == wanted).all()
    ]


def test_montage_has_the_original_and_a_column_per_layer() -> None:
    kept = small([[1, 1, 1, 1], [1, 0, 1, 0]])
    sheet = montage(kept, [0], "run")
    assert sheet is not None
    ((first, top),) = found(sheet, kept.original(0))
    places = [found(sheet, kept.tile(0, layer)) for layer in range(2)]
    lefts = [place[0][0] for place in places]
    assert [place[0][1] for place in places] == [top, top]
    assert first + TILE < lefts[0] < lefts[0] + TILE <= lefts[1]
    assert inked(sheet, 0, top, first, top + TILE)  # the answer beside it
    assert all(inked(sheet, left, top - 30, left + TILE, top) for left in (first, *lefts))  # what the columns are
    assert montage(kept, [], "run") is None


def test_montage_has_a_legend_of_the_colours_it_paints_with() -> None:
    sheet = montage(small([[1, 1, 1, 1], [0, 0, 0, 0]]), [0], "run")
    assert sheet is not None
    samples = [painted(Image.new("RGB", (20, 20), "#888888"), np.full((1, 1), share)) for share in (1.0, 0.5, 0.0)]
    places = [found(sheet, sample) for sample in samples]
    assert all(places)
    assert places[0][0] < places[1][0] < places[2][0]
    assert len({sample.getpixel((0, 0)) for sample in samples}) == 3


def test_montage_says_how_many_layers_it_shows() -> None:
    assert shown_layers(3) == [0, 1, 2]
    many = shown_layers(28)
    assert (many[0], many[-1], len(many)) == (0, 27, 8)


def test_montage_cuts_no_long_name_off() -> None:
    long = montage(small([[1, 1, 1, 1], [0, 0, 0, 0]]), [0], "a-very-long-name-of-a-run-" * 3)
    assert long is not None
    assert not inked(long, long.width - 4, 0, long.width, long.height)


def test_answers_are_without_markers() -> None:
    kept = small([[1, 1, 1, 1], [1, 1, 1, 1]])
    assert kept.answer(0) == "yes"
    kept.texts[5] = " sea lion<|im_end|>\n"
    assert kept.answer(0) == "sea lion"


def test_command_writes_page_and_picture(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(*options, "save_kept=true")
    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--demonstrations", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "kept.html")
    text = (tmp_path / "out" / "kept.html").read_text()
    assert text.count("<h2>") == 2
    assert text.count("<figure>") == 2 * (1 + 2)
    assert Image.open(io.BytesIO((tmp_path / "out" / "kept.png").read_bytes())).height > 2 * TILE


def test_a_run_without_the_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (None, b"not a zip file", b"PK\x03\x04 the beginning of one"):
        if content:
            (tmp_path / KEPT).write_bytes(content)
        assert main([str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("Expected the folder of a run made with save_kept=true")
        assert error.count("\n") == 1
