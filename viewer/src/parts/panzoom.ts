/** Drag to pan, wheel to zoom about the pointer, two fingers to pan on a track pad with shift. */

import type { Box } from "./linkcanvas";

interface Owner {
  get(): Box;
  clamp(box: Box): Box;
  click(): void;
}

export function panZoom(element: HTMLElement, move: (box: Box) => void, owner: Owner) {
  let start: { x: number; y: number; box: Box } | null = null;
  let far = false;

  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || (event.target as Element).closest("button")) return;
    start = { x: event.clientX, y: event.clientY, box: owner.get() };
    far = false;
  });
  window.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
    if (!far && Math.hypot(dx, dy) < 4) return;
    far = true;
    element.classList.add("dragging");
    move(owner.clamp({ ...start.box, x: start.box.x + dx, y: start.box.y + dy }));
  });
  window.addEventListener("pointerup", (event) => {
    if (start && !far && element.contains(event.target as Element) && !(event.target as Element).closest(".node, button")) owner.click();
    start = null;
    element.classList.remove("dragging");
  });
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = owner.get();
      const unit = event.deltaMode === 1 ? 16 : 1;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        const sideways = (event.deltaX || event.deltaY) * unit;
        return move(owner.clamp({ ...box, x: box.x - sideways }));
      }
      const edge = element.getBoundingClientRect();
      about(event.clientX - edge.left, event.clientY - edge.top, Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0016)));
    },
    { passive: false },
  );

  function about(px: number, py: number, factor: number): void {
    const box = owner.get();
    const k = owner.clamp({ ...box, k: box.k * factor }).k;
    move(owner.clamp({ k, x: px - ((px - box.x) / box.k) * k, y: py - ((py - box.y) / box.k) * k }));
  }

  return {
    by: (factor: number) => about(element.clientWidth / 2, element.clientHeight / 2, factor),
    dragged: () => far,
  };
}
