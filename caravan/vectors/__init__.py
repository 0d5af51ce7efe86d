"""Mem0 over Qdrant, as `memory.py` opens it: the client, the embedded store's lock, the bundled embedder.

It knows nothing of lessons and runs. Nothing is imported before it is needed: the libraries take seconds.
"""
