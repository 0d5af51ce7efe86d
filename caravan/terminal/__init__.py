"""The terminal: commands, questions, views. The only place that prints.

The modules of the commands import only the standard library and typer at their top, so that `--help` stays fast; what
a command needs it imports in its body: values, rich, and the modules here that draw with it (`console`, `summary`,
`progress`, `dialogue`, `driving`, `results`, `lookup`).
"""
