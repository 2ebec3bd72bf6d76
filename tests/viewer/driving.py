"""How the tests drive the page."""

from __future__ import annotations

import time
from typing import Any

READY = "html[data-ready]"
HOSTILE = "</script><img src=x onerror=alert(1)><b>bold</b>"


def visit(opened: Any, place: Any, state: str, **options: Any) -> Any:
    """Open a state of the page and wait for it. `place`: what `place` gives, or a running viewer."""
    url, allowed = place if isinstance(place, tuple) else (place.url, place.url)
    page = opened(f"{url}#{state}", allowed=allowed, **options)
    page.wait_for_selector(READY)
    return page


def said(page: Any, selector: str) -> str:
    return str(page.text_content(selector))


def until(page: Any, condition: str, arg: object = None, seconds: float = 10.0) -> None:
    """Wait for a condition. Playwright's own waiting evaluates text in the page, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition, arg):
        assert time.monotonic() < end, f"never true: {condition}"
        page.wait_for_timeout(30)


LONGEST_STEP = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const plot = document.querySelector('.plot');
  const box = plot.getBoundingClientRect();
  const at = (x, y) => ({ clientX: box.left + x, clientY: box.top + y, button: 0, buttons: 1, bubbles: true });
  const point = (target, name, x) => () => target.dispatchEvent(new PointerEvent(name, at(x, 100)));
  const turn = () => plot.dispatchEvent(new WheelEvent('wheel', { ...at(400, 150), deltaY: -80, cancelable: true }));
  const moves = Array.from({ length: 12 }, (_, i) => point(window, 'pointermove', 300 + 12 * i));
  const steps = [point(plot, 'pointerdown', 300), ...moves, point(window, 'pointerup', 432), turn, turn, turn, turn];
  let longest = 0;
  for (const step of steps) {
    const start = performance.now();
    step();
    longest = Math.max(longest, performance.now() - start);
    await frame();
  }
  return longest;
}"""


def ready(page: Any) -> Any:
    page.wait_for_selector(READY)
    page.wait_for_selector(".node.feature")
    return page


def counts(page: Any) -> tuple[int, int]:
    return tuple(
        int(page.text_content(f"[data-count={k}]").split(" of ")[0].replace(",", "")) for k in ("node", "edge")
    )


def select_strongest(page: Any) -> str:
    """Click the most influential feature in the graph itself; returns its id."""
    name = page.get_attribute(".ranking:not(.outputs) .connection", "data-id")
    page.click(f'.node[data-id="{name}"] .hit')
    page.wait_for_selector(f'.node.selected[data-id="{name}"]')
    return str(name)


def slide(page: Any, which: str, value: float) -> None:
    page.locator(f"input[type=range][aria-label^='{which}']").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })) }", value
    )
    until(page, "v => location.hash.includes(v)", arg=f"{'node' if which == 'Nodes' else 'edge'}={value}")
