"""Qwen2.5-VL: Qwen2-VL with windows inside the vision tower, and video time in seconds."""

from torch import Tensor

from emloc.backbones.qwen2_vl import Qwen2VL


class Qwen25VL(Qwen2VL):
    """Decoder, chat format and image processor are Qwen2-VL's.

    A step of a video advances time by `tokens_per_second` positions, as if it took one second: what transformers takes
    where nobody says how long it was.
    """

    model_types = ("qwen2_5_vl",)

    def _grid_positions(self, grid: Tensor) -> Tensor:
        positions = super()._grid_positions(grid)
        positions[0] *= self.model.config.vision_config.tokens_per_second
        return positions
