"""Records -> tidy tables.

Read in this order: `found` (where finished runs are), `load` (one row per run), `naming` (what a run is called in
tables), `seeds` (runs -> settings, with intervals), `checks` (what a reader must know first), `paired` (differences
within a seed), `comparable` and `layers` (what the figures of layers show), `wording` (how numbers are written).
"""
