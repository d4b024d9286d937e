"""From finished runs to tables and figures. Reads files only: it imports nothing of the library that made them.

Doors: `report` (tables, figures and a page), `claims` (the paper's claims, measured), `kept` (which tokens a run kept),
`bundle` (many runs in one small file). Read on in the order that the data goes: `runs` (records -> tidy tables),
`figures` (tables -> drawings), `pages` (tables and drawings -> Markdown, LaTeX, CSV and HTML). `experiments.records`
defines what a run's files hold; nothing else is imported from outside.
"""
