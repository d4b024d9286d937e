"""The paper's method, its baselines, and the loop that they all run in.

A method is a chain of stages: context -> importance -> allocation -> refit. Read `base` (what a method is), `loop`
(the one chunk loop, which measures), `trace` (what comes out), then the named chains: `emloc`, `emloc_plus`,
`emloc_video`, the rivals (`snapkv`, `kvzip`, ...), and what needs no scores: `none`, `quantised`,
`fewer_shots`, `rices`, `zero_shot`; `lora` changes the model instead.
"""
