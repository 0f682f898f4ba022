"""What came out of a search, to be read by people: analysis, figures and one page.

Nothing here imports torch. `write_report` makes the page; `html_summary` a fragment for notebooks.
"""

from parti.reports.notebook import html_summary
from parti.reports.page import write_report

__all__ = ["html_summary", "write_report"]
