"""How many decoder layers a run has to run: exact bounds, as the chunk loop and the search count them."""

from dataclasses import dataclass

from emloc.methods.base import Method
from emloc.options import CountOrZero, check_options
from experiments.estimating.sizes import Context, Queries


@dataclass(frozen=True)
class Bounds:
    """A number that is only known to lie between two, both included."""

    least: CountOrZero
    most: CountOrZero

    def __post_init__(self) -> None:
        check_options(self)

    def __add__(self, other: "Bounds") -> "Bounds":
        return Bounds(self.least + other.least, self.most + other.most)

    def __contains__(self, number: int) -> bool:
        return self.least <= number <= self.most

    def __str__(self) -> str:
        return f"{self.least:,}" if self.least == self.most else f"{self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class Forwards:
    """Layer forwards of a run: for deciding and measuring (as its record has them), and for answering."""

    deciding: Bounds
    measuring: Bounds
    answering: Bounds


def forwards(method: Method, layers: int, context: Context, queries: Queries) -> Forwards:
    """Bounds for a run of `method` with a model of `layers` layers."""
    deciding, measuring = _compressing(method, layers, context)
    return Forwards(deciding, measuring, _answering(layers, queries))


def _compressing(method: Method, layers: int, context: Context) -> tuple[Bounds, Bounds]:
    """Every chunk is prefilled once, L; then each region is decided, and what was decided is measured.

    Training runs all layers forward once per step, and then backward, which is not counted.
    """
    chunks, nothing = len(context.chunks), Bounds(0, 0)
    if method.schedule is not None:
        steps = method.schedule.steps(len(context.demonstrations.lengths))
        return Bounds(layers * steps, layers * steps), nothing
    prefill = Bounds(layers * chunks, layers * chunks)
    # The whole memory against the final one, by each chunk's probes.
    compared = Bounds(2 * layers * chunks, 2 * layers * chunks)
    if method.allocation is None or method.importance is None or method.own_contexts or not chunks:
        return prefill, compared if method.scope == "context" and not method.own_contexts else nothing
    parts = [_region(method, layers, share.tokens, share.reserved) for share in context.shares(method)]
    deciding = sum((region for region, _ in parts), prefill)
    if method.scope == "chunk":
        return deciding, sum((measured for _, measured in parts), nothing)
    # A search may end with nothing pruned.
    searches = method.allocation.trial_forwards(layers, context.tokens, 0) is not None
    return deciding, Bounds(0 if searches else compared.least, compared.most)


def _region(method: Method, layers: int, tokens: int, reserved: int) -> tuple[Bounds, Bounds]:
    """Deciding and measuring one region.

    The probe, L, is made by whoever asks for it first: the importance, a trial of the search, or the measurement of the
    final state, which takes another L. A search has measured its final state already. A probe that did not observe is
    made again for who wants to know what it saw. A refit may be left out, or not even be tried.
    """
    assert method.allocation is not None
    assert method.importance is not None
    trials = method.allocation.trial_forwards(layers, tokens, reserved)
    probed = method.importance.probed or (trials is not None and trials[1] > 0)
    again = method.importance.probed and not method.importance.observing
    passes = method.importance.passes + probed + (again and method.allocation.observing)
    deciding = Bounds(layers * passes, layers * passes) + Bounds(*(trials or (0, 0)))
    final = 0 if trials is not None else layers * (1 if probed else 2)
    most = (trials or (0, 0))[1]
    judging = method.allocation.judged_as_refitted
    refit = method.refit.forwards(layers, most, judging=judging) if method.refit else None
    if refit is None:
        return deciding, Bounds(final, final)
    observing = layers * (method.importance.passes + 1 + again - passes)
    return Bounds(deciding.least, deciding.most + observing + refit), Bounds(0, max(final, layers))


def _answering(layers: int, queries: Queries) -> Bounds:
    """A batch is run once, then token by token until its last answer ends; or once more per choice of two or more."""
    if queries.choices:
        passes = 1 + sum(tokens > 1 for tokens in queries.choices)
        return Bounds(layers * passes * queries.batches, layers * passes * queries.batches)
    return Bounds(layers * queries.batches, layers * queries.new_tokens * queries.batches)
