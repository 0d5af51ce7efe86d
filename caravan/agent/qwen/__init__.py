"""The reasoner that asks a language model: the rules answer first, the model refines, `guard` says what it may.

    reasoner   ModelReasoner: the ports Reasoner and Adviser, one module for each step
    asking     how a step asks: prompt, masked data within the window, and what happens when no answer comes
    tools      what the model may look at
    guard      which plan fields it may propose, and which never
    allowed    the list of those fields, and of values that options may have
    words      what its words to a person may hold

Nothing here has effects; what is proposed is checked again by the graph, by policies, budget and approval.
"""
