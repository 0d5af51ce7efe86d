"""From what is known of a failure to its cause, and from the cause to the repairs worth trying. Pure.

`evidence.py` boils outcome, events and logs down; `rules.py` finds the cause; `repair.py` builds the ladder of
repairs; `taxonomy.py` and `fields.py` hold the closed list of causes as data. The room knows no cluster, no memory
and no estimate: facts, past cases and the question of what fits are handed in.
"""
