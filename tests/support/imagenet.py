"""Small trees in the layout of ImageNet-1k, and the public implementation's list of demonstrations."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.datasets.imagenet100 import REFERENCE_LIST, class_names
from tests.support.runs import write_image


def imagenet_tree(root: Path, *, train: int, val: int) -> Path:
    """`train` and `val` images of each of the 100 classes."""
    for number, wnid in enumerate(class_names()):
        for image in range(train):
            write_image(root / "train" / wnid / f"{wnid}_{image}.JPEG", 10 * number + image)
        for image in range(val):
            write_image(root / "val" / wnid / f"ILSVRC2012_val_{50 * number + image:08d}.JPEG", 5000 + number)
    return root


def reference_list(folder: Path, images: Sequence[str]) -> Path:
    """The list of demonstrations with these images (`<wnid>/<file>`), as the public implementation has it."""
    names = class_names()
    rows = [
        {
            "question": "Which one?",
            "answer": f"{names[image.split('/')[0]]}.",
            "image": f"data/imagenet1k/train/{image}",
        }
        for image in images
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REFERENCE_LIST).write_text(json.dumps(rows), encoding="utf-8")
    return folder
