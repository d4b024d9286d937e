"""Experiments: datasets, metrics, the runner and the training of the embedded model."""
