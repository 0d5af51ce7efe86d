"""What people write in a sentence, as values of plan fields: numbers, money, times, GPUs, methods, models.

Each module finds one kind in a text of any of some languages; `caravan.planning.prompt_reading` puts them together.
Pure: a text and, for times of day, a clock's value. It knows no repository and no cluster.
"""
