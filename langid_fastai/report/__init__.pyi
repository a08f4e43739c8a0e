# The public names and their modules: read by type checkers and by __init__.py.

from .figures import confusion_figure, curves_figure
from .page import write_report

__all__ = ["write_report", "curves_figure", "confusion_figure"]
