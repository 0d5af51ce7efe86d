"""Training types: fine-tunes that Caravan brings a script for. Read, chosen, rendered and explained here.

A type is a folder of data. Nothing in this room runs what is in it: what is rendered runs in the job alone.
"""
