"""One self-contained HTML file: the bundle with a study's data inside. It loads nothing and sends nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cutaway.viewer import bundle
from cutaway.viewer.traces import entry, find_traces, read_trace

# In a JSON string these are written as escapes, so that no text of the data can end the element that holds it, open a
# comment in it, or (the next two) break a line of script. Half a surrogate pair, which JSON allows, has no UTF-8.
_ESCAPES = {code: f"\\u{code:04x}" for code in (*map(ord, "<>&\u2028\u2029"), *range(0xD800, 0xE000))}


def page(study_dir: str | Path) -> str:
    """The page of a study (one trace, or a folder of several) as a single HTML document.

    Raises `InputError` where the folder is no study, or a file of it is damaged or too new.
    """
    traces = find_traces(study_dir)
    data = {
        "schema": "cutaway.page/1",
        "entries": [entry(trace) for trace in traces],
        "traces": [read_trace(trace) for trace in traces],
    }
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
