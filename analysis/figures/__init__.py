"""Tidy tables -> figures.

Read in this order: `catalogue` (all figures, each with its words), `curves` (score and length against shots, limit, and
each other), `options` (the ablations), `layers` (what layers keep), `style` (how all of them look).
"""
