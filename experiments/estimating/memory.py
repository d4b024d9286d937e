"""How many bytes a run holds at once, phase by phase.

The letters of the formulas: L layers, C hidden size, I width of the MLP, H query heads, K KV heads, D head size,
V vocabulary; N tokens of a chunk, B rows of T tokens (padded), A answer tokens of the B rows; E bytes of a number.
Temporaries are counted where they are all alive at once; float32 ones take 4 bytes whatever the weights are.
"""

import sys
from dataclasses import dataclass, fields

from emloc.methods.base import Method
from emloc.options import CountOrZero, check_options
from experiments.estimating.sizes import Context, ModelSize, Queries, Rows

_F32, _INDEX = 4, 4  # bytes of a float32, and of the int32 that says where in the context an entry was
_VOCABULARY_BLOCK = 16384  # rows of the output matrix that are turned to float32 at a time, see emloc.backbones.decoder
_KEY_BLOCK = 1024  # keys of the plain kernel at a time, see emloc.attention
_JS_COPIES = 8  # of (A, V): two logits, their log-probabilities, the mean's, and three temporaries of a KL divergence
_TRAINING_COPIES = 4  # of (A, V): logits in blocks and as one, their log-probabilities, and the gradient
# glibc takes blocks of up to 32 MB from its heap, and gives none back that small ones sit on.
_HEAP_LEAST, _HEAP_MOST, _HOLE = 128 * 1024, 32 * 1024**2, 0.75


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes that a run needs; the phases come one after the other, so that the largest of them decides.

    Attributes
    ----------
    process
        What the interpreter and its libraries hold already; 0 on an accelerator, which holds tensors alone.
    weights, rows
        Held all the time: the model, and the embedded demonstrations.
    memory_full
        The context if nothing is pruned, as records count it.
    memory_least, memory_most
        The same once it is compressed.
    loading, encoding, prefill, deciding, answering
        The most that each phase holds besides: files that are turned into another number type (and no rows yet); the
        vision tower on a batch of images; the longest chunk over the
        memory before it; probes, trials and their divergences; a batch of queries over the memory.
    """

    process: CountOrZero
    weights: CountOrZero
    rows: CountOrZero
    memory_full: CountOrZero
    memory_least: CountOrZero
    memory_most: CountOrZero
    loading: CountOrZero
    encoding: CountOrZero
    prefill: CountOrZero
    deciding: CountOrZero
    answering: CountOrZero

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def beyond(self) -> int:
        """What the run needs on top of the process."""
        phases = max(self.encoding, self.prefill, self.deciding, self.answering)
        return self.weights + max(self.loading, self.rows + phases)

    @property
    def peak(self) -> int:
        """The most that is held at once: what a record calls peak_memory_bytes."""
        return self.process + self.beyond

    def as_dict(self) -> dict[str, int]:
        """All fields and the peak, by name."""
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, "peak": self.peak}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run, as far as its memory depends on it.

    `plain`: attention forms its logits; `converted`: bytes of files in another number type; `glibc`: see `_holes`.
    """

    model: ModelSize
    method: Method
    context: Context
    queries: Queries
    heldout: Rows
    plain: bool
    converted: CountOrZero = 0
    glibc: bool = sys.platform == "linux"


def estimate(plan: Plan, *, process: int = 0) -> Estimate:
    """The bytes of a run by `plan`, in a process that holds `process` bytes already."""
    model, context = plan.model, plan.context
    least, most = kept(plan)
    held = most if plan.method.quantisation is None else context.tokens * model.entry  # which is simulated
    return Estimate(
        process=process,
        weights=model.weights,
        rows=context.demonstrations.tokens * model.hidden * model.element * (1 + model.added),
        memory_full=context.tokens * model.entry,
        memory_least=least,
        memory_most=most,
        loading=plan.converted,
        encoding=_encoding(model, context.demonstrations),
        prefill=_prefill(plan, held),
        deciding=max(_deciding(plan, held), _heldout(plan, held), _training(plan)),
        answering=_stored(model, held) + _answering(plan),
    )


def kept(plan: Plan) -> tuple[int, int]:
    """Bytes of keys and values that stay, (least, most): what the allocation says of every region."""
    model, method = plan.model, plan.method
    if method.quantisation is not None:
        heads, size = [plan.context.tokens] * model.kv_heads, model.head_size
        return (model.layers * method.quantisation.nbytes(heads, channels=size, element=model.element),) * 2
    if method.allocation is None or method.own_contexts:
        return (plan.context.tokens * model.entry,) * 2
    parts = [method.allocation.kept(model.layers, share) for share in plan.context.shares(method)]
    return sum(least for least, _ in parts) * model.entry // model.layers, sum(
        most for _, most in parts
    ) * model.entry // model.layers


def _encoding(model: ModelSize, rows: Rows) -> int:
    """A batch of images in the vision tower: the numbers of one layer for each visual token."""
    return sum(sorted(rows.visual)[-model.images_at_once :]) * model.patch * model.element


def _prefill(plan: Plan, most: int) -> int:
    """The last chunk over the memory before it, then the memory copied with the chunk's entries behind it.

    Without pruning that is twice the whole memory and the chunk.
    """
    model, tokens = plan.model, plan.context.chunk_tokens
    if not tokens:
        return 0
    whole = _whole(plan, most)
    chunk = _stored(model, max(tokens) * model.entry)
    run = max(tokens) * model.hidden * model.element + layer(model, max(tokens), plain=plan.plain)
    return whole + chunk + max(run, whole)


def _whole(plan: Plan, most: int) -> int:
    """The memory while chunks are added: unpruned until the end where the context is decided as a whole."""
    full = plan.method.scope == "context" or plan.method.allocation is None or plan.method.own_contexts
    return _stored(plan.model, plan.context.tokens * plan.model.entry if full else most)


def _deciding(plan: Plan, most: int) -> int:
    """Memory, raw region, the probes' rows with every layer's input (L B T C E), what is kept, and the divergence.

    Where the context is decided as a whole, probes come chunk by chunk unless the importance or the search probe it.
    """
    method, model, context = plan.method, plan.model, plan.context
    if method.allocation is None or method.own_contexts or not context.chunks:
        return 0
    largest = max(context.chunks, key=lambda rows: rows.padded)
    whole = method.scope == "context"
    searched = method.allocation.trial_forwards(model.layers, context.tokens, method.reserved) is not None
    together = whole and (searched or _probed(method))  # the probes of all chunks are run at once
    rows = context.demonstrations if together else largest
    if method.probes != "all":
        rows = rows.longest(method.probes * (len(context.chunks) if together else 1))
    region = context.tokens if whole else max(context.chunk_tokens)
    held = _stored(model, most) + _stored(model, region * model.entry) * (1 if whole else 2)
    inputs = (model.layers + 1 if searched or _probed(method) else 1) * rows.padded * model.hidden * model.element
    observers = len(rows.lengths) * max(rows.answers, default=0) if _probed(method) else 0
    scores = model.heads * observers * region * _F32 * 4
    tail = min(method.tail_tokens, context.tokens) * model.heads
    held += model.layers * tail * model.head_size * model.element
    averages = method.importance is not None and method.importance.averages_tail
    window = tail * (model.head_size if averages else region) * _F32 * 5
    seen = 2 * model.layers * rows.tokens * model.heads * model.head_size * _F32 if _observing(method) else 0
    work = max(layer(model, rows.padded, plain=plan.plain) + scores, window, divergence(model, sum(rows.answers)))
    return held + inputs + seen + work + (_holes(plan, rows) if searched else 0)


def _training(plan: Plan) -> int:
    """A step of training: the temporaries of all layers, which its backward pass needs, and tables (A, V)."""
    model, schedule, rows = plan.model, plan.method.schedule, plan.context.demonstrations
    if schedule is None or not rows.lengths:
        return 0
    batch = min(schedule.batch_size, len(rows.lengths))
    tokens = batch * (plan.context.opening + max(rows.lengths))
    tables = _TRAINING_COPIES * batch * max(rows.answers) * model.vocabulary * _F32
    return model.layers * layer(model, tokens, plain=plan.plain) + tables + _matrix_block(model)


def _observing(method: Method) -> bool:
    """Whether queries and outputs of all the probes' tokens are held."""
    stages = (method.importance, method.allocation, method.refit)
    return any(stage is not None and stage.observing for stage in stages)


def _probed(method: Method) -> bool:
    return method.importance is not None and method.importance.probed


def _heldout(plan: Plan, most: int) -> int:
    """Queries with their answers over the whole and the compressed memory; every layer's input is kept."""
    model, rows = plan.model, plan.heldout
    if not rows.lengths:
        return 0
    whole = _stored(model, plan.context.tokens * model.entry)
    inputs = (model.layers + 1) * rows.padded * model.hidden * model.element
    return (
        _stored(model, most)
        + whole
        + max(whole, inputs + max(layer(model, rows.padded, plain=plan.plain), divergence(model, sum(rows.answers))))
    )


def _answering(plan: Plan) -> int:
    """A batch of queries: its own keys and values, and a layer's temporaries or the logits of the next token.

    Ranked answers take logits, their log-probabilities and a temporary at every token of the longest choice.
    """
    model, batch = plan.model, plan.queries.batch
    own = (batch.padded + len(batch.lengths) * plan.queries.new_tokens) * model.entry
    if not plan.queries.choices and _pinned(plan, own // (2 * model.layers)):
        own *= 2  # a new token makes all of them grow out of the room that they had
    positions = len(batch.lengths) * max(1, max(plan.queries.choices, default=1) - 1)
    logits = positions * model.vocabulary * _F32 * (3 if plan.queries.choices else 2)
    return own + max(layer(model, batch.padded, plain=plan.plain), logits + _matrix_block(model))


def layer(model: ModelSize, tokens: int, *, plain: bool) -> int:
    """Temporaries of one decoder layer on N tokens: the MLP's, N (3 I + 2 C) E, or the attention's, if those are more.

    Attention holds states, queries, keys and values before and after rotation, keys and values repeated for every
    head, and three float32 outputs to be merged. The plain kernel also forms its logits, block by block of keys.
    """
    heads, kv_heads = model.heads * model.head_size, model.kv_heads * model.head_size
    mlp = (3 * model.inner + 2 * model.hidden) * model.element
    attention = (2 * model.hidden + 4 * heads + 4 * kv_heads) * model.element + 3 * heads * _F32
    logits = 3 * model.heads * min(tokens, _KEY_BLOCK) * _F32 if plain else 0
    return tokens * max(mlp, attention + logits)


def divergence(model: ModelSize, answers: int) -> int:
    """Temporaries of a Jensen-Shannon divergence over the whole vocabulary: 8 float32 tables (A, V)."""
    return _JS_COPIES * answers * model.vocabulary * _F32 + _matrix_block(model)


def _matrix_block(model: ModelSize) -> int:
    """A block of the output matrix in float32, where the weights are not."""
    return 0 if model.element == _F32 else min(model.vocabulary, _VOCABULARY_BLOCK) * model.hidden * _F32


def _stored(model: ModelSize, entries: int) -> int:
    """Bytes of keys and values with the index of each entry."""
    return entries + entries // (2 * model.head_size * model.element) * _INDEX


def _holes(plan: Plan, rows: Rows) -> int:
    """What the C library cannot give back while a search goes on, on the CPU under Linux.

    A layer's decision may leave small blocks (the entries it keeps) in the room of a freed table (A, V), so that the
    next table takes new room. Measured were 0 to 1.5 tables per layer, as chance has it (docs/PERFORMANCE.md); this is
    the middle. Tables above 32 MB are given back at once.
    """
    table = sum(rows.answers) * plan.model.vocabulary * _F32
    return int(_HOLE * plan.model.layers * table) if _pinned(plan, table) else 0


def _pinned(plan: Plan, block: int) -> bool:
    """Whether a block of so many bytes may stay with the process once it is freed."""
    return plan.glibc and _HEAP_LEAST <= block <= _HEAP_MOST
