"""How the values that stay make up for what was pruned: one file per way, `base` says what such a way is."""
