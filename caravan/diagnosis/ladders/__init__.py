"""The rungs of the ladders, by the kind of cause they stand against. `caravan.diagnosis.repair` holds the table.

A rung is a function from a case to repairs, the most promising first; it gives none where it does not apply. It knows
the plan and what is handed in with the case, never a cluster, a file or the estimate itself.
"""
