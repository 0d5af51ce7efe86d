"""The agent: one LangGraph graph over small nodes, its state, its routes, the reasoners, and the driver of a run.

A node calls a port, calls pure logic and returns a partial update. What is foreign comes in through `Context`.
"""
