"""The report of a run: what was asked, found, planned, tried, measured, spent and left, and how to go on.

    content.py    the material of a run → one document (blocks.py): what is told, and in which order
    markdown.py   the document as REPORT.md
    page.py       the document as report.html: one file that needs nothing else
    charts.py     which curves are drawn together; drawing.py: where each point comes to lie

Pure: the same run gives the same bytes. It must not know how the run was driven, nor read its folder.
"""
