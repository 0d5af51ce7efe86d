"""The evaluation gate: from what was measured and logged to pass, fail or needs a look. Pure: it reads no file, runs no
job, and must not know how the figures were come by.

`judging.judge` is the whole; each of the other modules is a kind of check, or what the checks share.
"""
