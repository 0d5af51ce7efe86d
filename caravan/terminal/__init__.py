"""The terminal: commands, questions, views. The only place that prints.

Modules here import only the standard library and typer at their top, so that `--help` stays fast; what a command
needs it imports in its body.
"""
