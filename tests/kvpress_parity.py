"""Are scores those of kvpress? `python -m tests.kvpress_parity [--python ENVIRONMENT/bin/python]`.

kvpress (NVIDIA, Apache-2.0) has the reference code of several rivals, and wants packages that this project does not
have (pandas below 3). So it gets an environment of its own, fresh unless `--python` names one, which takes some minutes
and 2 GB of disk. It scores the same ids with the same small random llama as we do here: key_difference (KeyDiffPress),
window (SnapKVPress), expected_attention (ExpectedAttentionPress) and repetition (KVzipPress, one repeated row).
kvpress has no Attention Matching, PyramidInfer or FastGen.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from emloc import Demonstration, ExpectedAttention, Importance, KeyDifference, Repetition, Window, load_backbone
from emloc.backbones.base import Backbone
from emloc.passes import prefill
from emloc.region import Probes, Region
from emloc.rows import Row, concatenate
from tests.support.families import FAMILIES

KVPRESS = "kvpress==0.5.0"
WORKER = Path(__file__).parent / "support" / "kvpress_scores.py"
WINDOW, SINKS, FUTURE = 16, 4, 512
CLOSE = 1e-4  # of the largest score of a layer: float32, in another order


def backbone_at(folder: Path) -> Backbone:
    """A small llama of random weights, large enough that it attends to some tokens more than to others."""
    family = next(each for each in FAMILIES if each.name == "llama")
    backbone = load_backbone(family.save(folder), device="cpu")
    with torch.no_grad():
        for layer in backbone.layers:
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                getattr(layer.self_attn, name).weight.mul_(7.0)
        backbone.model.get_input_embeddings().weight.mul_(20.0)
    backbone.model.save_pretrained(folder)
    return backbone


def rows_of(backbone: Backbone) -> list[Row]:
    """A few texts as demonstrations."""
    pairs = [("Which colour is the sky?", "blue"), ("What do bees make?", "honey, and wax"), ("Two and three?", "five")]
    return backbone.encode([Demonstration(None, question, answer) for question, answer in pairs])


def region_of(backbone: Backbone, rows: list[Row]) -> Region:
    """The rows as a context, probed by the last of them alone."""
    empty = backbone.empty_memory()
    chunk = prefill(backbone, concatenate([backbone.system_row(), *rows]), empty, tail=10**6)
    return Region(backbone, chunk, empty, Probes(rows[-1:]))


def ours(region: Region) -> Iterator[tuple[str, Tensor]]:
    """Scores (L, H_kv, N) of the importances, in kvpress's units."""
    importances: dict[str, Importance] = {
        "key_difference": KeyDifference(),
        "window": Window(window=WINDOW),
        "expected_attention": ExpectedAttention(sinks=SINKS, future=FUTURE),
        "repetition": Repetition(sinks=0),
    }
    groups = region.chunk.tail[0].shape[0] // region.chunk.layers[0].keys.shape[0]
    for name, importance in importances.items():
        tail = tuple(layer[:, -min(importance.tail_tokens, layer.shape[1]) :] for layer in region.chunk.tail)
        scores = torch.stack(importance.scores(replace(region, chunk=replace(region.chunk, tail=tail))))
        # Cosines from the other end, and sums in place of means: neither changes a ranking.
        yield name, {"key_difference": scores - 1, "window": scores / (WINDOW * groups)}.get(name, scores)


def compared(name: str, tokens: int) -> slice:
    """The tokens that both score: kvpress pads what always stays, and pools the window's neighbours without it."""
    return {"window": slice(0, tokens - WINDOW - 2), "expected_attention": slice(SINKS, tokens)}.get(name, slice(None))


def theirs(python: Path, folder: Path, region: Region) -> dict[str, Tensor]:
    """Scores (L, H_kv, N) by kvpress, of the model saved in the folder."""
    (row,) = region.probes.rows
    given = {"context": region.chunk.row.ids, "row": row.ids, "window": WINDOW, "future": FUTURE, "sinks": SINKS}
    torch.save(given, folder / "given.pt")
    _run(python, WORKER, folder, folder / "given.pt", folder / "scores.pt")
    scores: dict[str, Tensor] = torch.load(folder / "scores.pt")
    return scores


def differences(python: Path, folder: Path) -> dict[str, float]:
    """Per importance the largest difference of a score, as a share of the largest score of its layer."""
    backbone = backbone_at(folder)
    region, found = region_of(backbone, rows_of(backbone)), {}
    reference, tokens = theirs(python, folder, region), region.chunk.tokens
    with torch.inference_mode():
        for name, scores in ours(region):
            at = compared(name, tokens)
            mine, other = scores[..., at], reference[name][..., at]
            most = other.abs().amax((1, 2), keepdim=True)
            found[name] = float(((mine - other).abs() / most).max())
    return found


def environment(folder: Path) -> Path:
    """The Python of a fresh environment with kvpress."""
    _run(sys.executable, "-m", "venv", folder)
    _run(folder / "bin" / "python", "-m", "pip", "install", "-q", KVPRESS)
    return folder / "bin" / "python"


def _run(*command: str | Path) -> None:
    print("$", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True)


def main() -> int:
    """Compare all scores; the exit code is 0 if they are the same."""
    parser = argparse.ArgumentParser(prog="python -m tests.kvpress_parity", description=__doc__)
    parser.add_argument("--python", type=Path, help="of an environment that has kvpress; without it one is built")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emloc-kvpress-") as place:
        python = options.python or environment(Path(place) / "environment")
        found = differences(python, Path(place) / "model")
    for name, difference in found.items():
        print(f"{name}: {'the same' if difference < CLOSE else 'DIFFERENT'} (at most {difference:.1e} apart)")
    return 0 if all(difference < CLOSE for difference in found.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
