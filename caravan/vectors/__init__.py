"""Mem0 over Qdrant, as `memory.py` opens it: a server's client, or the embedded engine and who owns it; the embedder.

It knows nothing of runs. Nothing is imported before it is needed: the libraries take seconds.
"""
