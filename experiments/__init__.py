"""The experiment runner: from a Hydra configuration to the record of a finished run.

Doors: `runner` (what run.py calls), `doctor` (what a run will need, before it loads anything), `benchmark` (how fast
the attention kernels are).

Read a run from top to bottom in this order:
    runner              find a finished run, or compute it
    setup/              configuration -> checked objects: settings, method, dataset, model
    estimating/         objects -> bytes and layer forwards, before the weights are loaded
    running/            objects -> measurements: load, compress, answer, record
    records/            the contract of what a run leaves, which the analysis reads
The rest is what these put together:
    datasets/           tasks: demonstrations, queries, how an answer is scored
    metrics/            scores and their means
    pictures/           what is drawn during a run, or of a model
    miniature/          how the embedded model was made; `python -m experiments.miniature.train`
"""
