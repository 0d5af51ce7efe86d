"""Optimising prompts offline: cases with their truth, metrics that execute, DSPy's optimisers, a fair comparison.

What comes out is a prompt as any other: a run uses it without anything of this room.
"""
