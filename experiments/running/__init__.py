"""From checked objects to measurements: what happens between the start of a run and its record.

Read `job` (the whole run), then its steps in their order: `folder` (whose folder it is), `images` (each is read once),
`evaluation` (queries are answered and scored), `heldout` (divergence on queries), `assembly` (measurements -> record).
What is written besides: `layer_rows` (layers.csv), `kept` (kept.npz), `summary` (the printed table), `loggers`; the
picture is drawn by `experiments.pictures.layers`. `progress` and `provenance` help.
"""
