"""One self-contained HTML file: the bundle with a study's data inside. It loads nothing and sends nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cutaway.core import InputError
from cutaway.viewer import bundle
from cutaway.viewer.results import entry, find, read

# In a JSON string these are written as escapes, so that no text of the data can end the element that holds it, open a
# comment in it, or (the next two) break a line of script. Half a surrogate pair, which JSON allows, has no UTF-8.
_ESCAPES = {code: f"\\u{code:04x}" for code in (*map(ord, "<>&\u2028\u2029"), *range(0xD800, 0xE000))}


def page(study: str | Path) -> str:
    """The page of a study (a folder of one result or of several, or one JSON file) as a single HTML document.

    Raises `InputError` where there is nothing to show, or the one result is damaged or too new. Of several, a damaged
    one is listed with what is wrong with it.
    """
    items = find(study)
    data: dict[str, Any] = {"schema": "cutaway.page/2", "entries": [entry(item) for item in items]}
    data |= {"traces": [], "results": []}
    for item in items:
        try:
            for kind, value in read(item).items():
                data[f"{kind}s"].append(value)
        except InputError:
            if len(items) == 1:
                raise
    return _document(data)


def _document(data: dict[str, Any]) -> str:
    script = bundle.read("viewer.js").replace("</script", "<\\/script").replace("<!--", "<\\!--")
    styles = bundle.read("viewer.css").replace("</style", "<\\/style")
    head, body = bundle.read("index.html").split('<link rel="stylesheet" href="viewer.css" />')
    body, end = body.split('<script type="module" src="viewer.js"></script>')
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return "".join(
        [
            head.replace(
                '<meta charset="utf-8" />',
                f'<meta charset="utf-8" />\n    <meta http-equiv="Content-Security-Policy" content="{policy}" />',
            ),
            f"<style>{styles}</style>",
            body,
            f'<script type="application/json" id="cutaway-data">{inline_json(data)}</script>\n    ',
            f"<script>{script}</script>",
            end,
        ]
    )


def inline_json(value: Any) -> str:
    """JSON that can stand inside a script element, whatever the strings in it say."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def _hash(text: str) -> str:
    """The source expression that lets exactly this inline text run (Content Security Policy level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
