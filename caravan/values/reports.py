"""The report of a run in its two renderings."""

from caravan.values.base import Value


class RunReport(Value):
    """`markdown` is REPORT.md, `page` is report.html: one file that needs nothing else. Secrets are masked in both."""

    markdown: str
    page: str = ""
