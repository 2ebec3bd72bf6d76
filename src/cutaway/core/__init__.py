"""What all rooms share: the Evidence record, protocols, errors, whole-or-absent files."""

from cutaway.core.errors import CutawayError, InputError, UnknownName, refuse_name, unknown
from cutaway.core.evidence import Comparison, Estimate, Evidence, Interval, NotDone, TailItem, Verdict
from cutaway.core.files import atomic_folder, atomic_path, content_hash, read_json, write_json, write_text

__all__ = [
    "Comparison",
    "CutawayError",
    "Estimate",
    "Evidence",
    "InputError",
    "Interval",
    "NotDone",
    "TailItem",
    "UnknownName",
    "Verdict",
    "atomic_folder",
    "atomic_path",
    "content_hash",
    "read_json",
    "refuse_name",
    "unknown",
    "write_json",
    "write_text",
]
