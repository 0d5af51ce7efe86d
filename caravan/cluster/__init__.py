"""Clusters: the client for a Nomad, the watcher, and the built-in cluster. Knows nothing of plans, runs or agents."""
