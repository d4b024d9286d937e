"""Pictures that need a model or a run in progress; those of finished runs are the analysis's.

`layers` (layers.png of every run), `one_chunk` (the picture of docs/METHOD.md, a command).
"""
