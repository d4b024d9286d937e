"""What a run will need, known before its weights are loaded.

Read in this order: `sizes` (of the model, the context and the queries: configuration and tokenizer tell them),
`forwards` (layer forwards from sizes), `memory` (bytes from sizes), `forecast` (both, of a run's configuration),
`wording` (the lines that are printed). `machine` says what is installed and how much memory there is, `warning` is what
a run says that does not fit.
"""
