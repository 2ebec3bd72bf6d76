"""Where each method begins to fail as superposition grows: toy networks whose features are known, four rooms' methods.

python -m cutaway.exams.superposition --out FOLDER
"""

from cutaway.exams.superposition.exam import Limits, measure, superposition_exam

__all__ = ["Limits", "measure", "superposition_exam"]
