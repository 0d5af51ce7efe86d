"""The language model's client: one server, structured replies, the tool loop, budgets, the window, a second model.

It knows no prompts and no plans: what is asked, and what an answer is worth, is said elsewhere.
"""
