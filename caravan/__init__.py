"""Caravan: the agent that brings a fine-tune to its end on a Nomad GPU cluster.

The package is the inside of the application. It never imports the files at the top of the project (`main.py`,
`config.py`, ...); those wire settings and adapters and hand them in. Importing anything here does nothing.
"""

from pathlib import Path
from typing import Final

__version__: Final = "0.1.0"
"""The one place that states the version: `--version`, traces, reports and the image's label are made from it."""

TEMPLATES: Final = Path(__file__).resolve().parent.parent / "templates"
"""Folder of the texts that are rendered: job HCL, launch script, report."""
