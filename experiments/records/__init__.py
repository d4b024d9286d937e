"""The contract between the runner and everything that reads its runs. It imports the standard library only.

Read in this order: `files` (what is in a run's folder), `names` (what a run is called, and which options decide that),
`schema` (record.json, field by field), `layers` (the columns of layers.csv), `bundle` (many finished runs in one file),
`upgrade` (records of earlier versions), `rekey` (the command that renames runs of earlier versions), `look` (how
figures look).
"""
