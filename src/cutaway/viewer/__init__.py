"""The page that shows a study: served on this machine alone (`serve`), or as one HTML file (`page`)."""

from cutaway.viewer.page import page
from cutaway.viewer.server import serve

__all__ = ["page", "serve"]
