"""The committed bundle is the one that the sources build, and carries nothing that it should not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cutaway.viewer import bundle
from tests.viewer.conftest import absent

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "viewer"
BUILT = ROOT / "src" / "cutaway" / "viewer" / "static"
SINGLE = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")


def _sources() -> dict[str, bytes]:
    paths = [SOURCE / name for name in SINGLE] + [path for path in (SOURCE / "src").rglob("*") if path.is_file()]
    return {path.relative_to(SOURCE).as_posix(): path.read_bytes() for path in paths}


def test_the_bundle_was_built_from_these_sources() -> None:
    said = (BUILT / "source.sha256").read_text().strip()
    assert said == bundle.source_hash(_sources()), "viewer/ changed: run 'npm run build' there and commit static/"


def test_a_changed_source_is_noticed() -> None:
    sources = _sources()
    before = bundle.source_hash(sources)
    assert bundle.source_hash({**sources, "src/main.ts": sources["src/main.ts"] + b"\n"}) != before
    assert bundle.source_hash({**sources, "src/new.ts": b""}) != before


def test_a_fresh_build_gives_the_same_bytes() -> None:
    if shutil.which("node") is None or not (SOURCE / "node_modules").is_dir():
        absent("Node or viewer/node_modules is not there (run 'npm ci' in viewer/)")
    done = subprocess.run(
        ["node", "scripts/check-current.mjs"], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_small_and_names_no_address_to_load_from() -> None:
    size = sum((BUILT / name).stat().st_size for name in bundle.FILES)
    assert size < 280 * 1024
    for name in bundle.FILES:
        addresses = set(re.findall(r"https?://[\w./-]+", bundle.read(name)))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name


def test_the_script_builds_no_markup_from_text() -> None:
    """Data reaches the page as text nodes and attributes alone."""
    for path in (SOURCE / "src").rglob("*.ts"):
        text = path.read_text()
        for call in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert call not in text, f"{path.name}: {call}"


def test_only_listed_files_are_read() -> None:
    with pytest.raises(KeyError):
        bundle.read("../page.py")


def test_the_lock_names_no_registry() -> None:
    assert '"resolved"' not in (SOURCE / "package-lock.json").read_text()
