"""The folder on disk that a piece of work leaves, readable by anyone later: a manifest, tensors, tables, a page."""

from cutaway.study.contents import Item, contents
from cutaway.study.manifest import Manifest, claim_folder, read_manifest, seal
from cutaway.study.trace import write_trace

__all__ = ["Item", "Manifest", "claim_folder", "contents", "read_manifest", "seal", "write_trace"]
