"""How much every token of the context matters: one file per importance.

Read `base` (what an importance is), then `answers` (EMLoC's) and `window` (SnapKV's); `emloc.scores` has their
formulas. Scores are never negative: some allocations take them as masses.
"""
