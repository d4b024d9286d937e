"""The parts of the embedded model's training program (`python -m experiments.miniature.train`)."""
