"""Frozen values that the rooms exchange, and the pure functions every room may use on them.

RepoProfile → Question / Answer → TrainingPlan → Estimate → JobSpec (→ HCL) → Deployment → Snapshot… → Outcome
Evidence → Diagnosis (+ PastCase) → Repair → TrainingPlan'

This room imports nothing of ours and does no I/O.
"""
