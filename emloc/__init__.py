"""EMLoC: training-free adaptation of multimodal language models by compressed many-shot context.

    from emloc import Demonstration, EMLoC, Memory, Query, load_backbone

    backbone = load_backbone("Qwen/Qwen2-VL-7B-Instruct")
    memory = EMLoC(delta=0.005).compress(backbone, demonstrations)      # adapt once ...
    memory.save("task.safetensors")                                     # ... ship a file of a few MB
    backbone.answer([Query(image, "What is this?")], Memory.load("task.safetensors", backbone))

What a demonstration or a query shows is an image, the path of one, `Video(path, frames=8)`, or None.

Shapes in signatures: B rows of a batch, T tokens, N tokens of a chunk, H_q query heads, H_kv KV heads, G query heads
per KV head, D head size, C hidden size, L layers, A answer positions, V vocabulary, P position axes (3 with mRoPE).
"""

from emloc.errors import UserError as UserError
from emloc.loading import load_backbone as load_backbone
from emloc.memory import Memory as Memory
from emloc.methods.base import Compression as Compression
from emloc.methods.base import Method as Method
from emloc.methods.base import Reply as Reply
from emloc.methods.emloc import EMLoC as EMLoC
from emloc.methods.emloc_video import EMLoCVideo as EMLoCVideo
from emloc.methods.none import NoPruning as NoPruning
from emloc.methods.pyramidkv import PyramidKV as PyramidKV
from emloc.methods.snapkv import SnapKV as SnapKV
from emloc.methods.zero_shot import ZeroShot as ZeroShot
from emloc.prompt import Demonstration as Demonstration
from emloc.prompt import Query as Query
from emloc.video import Video as Video
