"""What a run leaves behind: the store of runs, the run's folder with plan, jobs and logs, and the report.

This room knows the values and the ports. It knows nothing of clusters, of the agent's graph or of terminals.
"""
