"""A Python file of the user's own, run: a factory of modules, a specification, an answer to an exercise."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from cutaway.core.errors import InputError


def run_own(file: str | Path, given: str | None = None) -> ModuleType:
    """The module that a Python file makes when it is run, with its own folder first on the path of imports meanwhile.
    `given` is what the user wrote, for the messages.

    Raises InputError: no such file, not a Python file, or one that fails, with the line of it.
    """
    path, given = Path(file).expanduser(), given or str(file)
    if path.suffix != ".py":
        raise InputError(f"{given} is no Python file (name.py).")
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise InputError(f"no file {path}." + (f" In its folder: {', '.join(beside[:8])}." if beside else ""))
    path = path.resolve()
    found = importlib.util.spec_from_file_location(f"_cutaway_own_{path.stem}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses and pickles look a class's module up
    own = names_beside(path)
    for name in [name for name in sys.modules if name in brought and name.split(".")[0] in own]:
        del sys.modules[name]  # of another folder, or of this one as it was before
    before = set(sys.modules)
    sys.path.insert(0, str(path.parent))
    importlib.invalidate_caches()
    try:
        found.loader.exec_module(module)
    except InputError:
        raise  # from this library, and says what is wrong
    except (Exception, SystemExit) as error:
        raise InputError(f"{given}: the file cannot be run: {where(error, path)}") from error
    finally:
        sys.path.remove(str(path.parent))
        brought.update(name for name in sys.modules if name not in before and name.split(".")[0] in own)
    return module


# The modules that such files have imported from beside themselves. Python keeps a module by its name alone: without
# this, the `data.py` of one file is what the next file, in another folder, gets for its own `data.py`.
brought: set[str] = set()


def names_beside(path: Path) -> set[str]:
    """What the file may import from its own folder: other Python files, and folders that are packages."""
    files = {p.stem for p in path.parent.glob("*.py") if p != path}
    return files | {p.parent.name for p in path.parent.glob("*/__init__.py")}


def where(error: BaseException, path: Path) -> str:
    """The error, with the last line of the file that was being run."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return text
    own = path.resolve()
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == own]
    return f"{text} (line {lines[-1]} of {path.name})" if lines else text
