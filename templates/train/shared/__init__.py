"""What every training script of Caravan shares: options, data, metrics, checkpoints, what is written beside weights.

Plain Python for the job alone. Only `trainer`, `models` and `parallel` need torch and transformers, and import them
when they are called, so that a look at options and data takes no time.
"""
