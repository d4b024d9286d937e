"""How many tokens every layer keeps: one file per allocation.

Read `base` (what an allocation is), then `uniform`, `pyramid` and `global_threshold`, which spend a `budget`, and
`layer_search`, EMLoC's, and `water_filling`, which stay within a limit on the divergence.
"""
