"""How the embedded model was made: everything that draws for, trains, judges and exports it.

`python -m experiments.miniature.train` is the command. Read `train` (the stages), then what they use: `drawing` and
`images` (what the model sees), `vocabulary` and `episodes` (what it is asked), `lessons` (how losses are made of that),
`vision` and `text` (its two parts), `loop` (one stage of training), `evaluate`, `curve` and `export` (what comes out).
"""
