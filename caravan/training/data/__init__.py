"""Data of a training, looked at before anything is launched: format, rows, labels, lengths, leaks, a hash.

Bytes come from an injected opener (`places`); nothing here knows paths of this machine, the plan, or the cluster. What
it finds tells where something is wrong and never what a row says.
"""
