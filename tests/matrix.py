"""Every method, once: a new method adds its row here and is covered by the tests that use the matrix."""

from emloc import EMLoC, EMLoCVideo, Method, NoPruning, PyramidKV, SnapKV, ZeroShot

METHODS: tuple[Method, ...] = (
    EMLoC(delta=0.02, chunk_size=4),
    EMLoC(delta=0.02, chunk_size=4, order="bottom_up"),
    EMLoC(delta=0.02, chunk_size=4, group=3),
    EMLoCVideo(chunk_size=4),
    NoPruning(chunk_size=4),
    ZeroShot(chunk_size=4),
    SnapKV(budget=0.4, window=8, chunk_size=4),
    SnapKV(budget=100, observe="probes", chunk_size=4),
    PyramidKV(budget=0.4, window=8, chunk_size=4),
    PyramidKV(budget=0.3, observe="probes", chunk_size=4),
)
