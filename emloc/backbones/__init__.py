"""One file per model family; `base.py` says what a backbone is."""
