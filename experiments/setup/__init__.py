"""From a command line to checked objects.

Read in this order: `choices` (what conf/ offers), `nodes` (what a part of the configuration has to look like, and how
its options become a checked dataclass), `settings` (the options that the runner reads itself), `naming` (what a run is
called), `unread` (options that nothing reads), `checking` (all of this in order, before torch is imported), `matching`
(budgets of other runs), `building` (components from their nodes). On the way in, `spellings` brings options under
earlier names up to date; on the way out, `problems` turns what went wrong into one sentence and an exit code.
"""
