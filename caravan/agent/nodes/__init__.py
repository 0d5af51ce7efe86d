"""The nodes, by the part of the flow they belong to: understand, ask, commit, deploy, mend, finish.

Each takes the state and the context and returns a partial update. A node may run twice (crash, resume), so its
effects are idempotent.
"""
