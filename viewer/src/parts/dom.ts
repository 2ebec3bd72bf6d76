/** Making elements. Text only ever becomes a text node, so no data is read as markup. */

export type Child = Node | string | number | null | undefined | false;

type Props = Record<string, unknown>;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: (Child | Child[])[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), props, children) as HTMLElementTagNameMap[K];
}

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: (Child | Child[])[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children) as SVGElementTagNameMap[K];
}

function fill(element: Element, props: Props, children: (Child | Child[])[]): Element {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || (value === false && !key.startsWith("aria-"))) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value as EventListener);
    else if (key === "style") style(element as HTMLElement, value as Record<string, string>);
    else element.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : String(value));
  }
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) element.append(asText(child));
  return element;
}

function asText(child: Node | string | number): Node | string {
  return typeof child === "number" ? String(child) : child;
}

/** Through the object model, which a strict content security policy allows. */
export function style(element: HTMLElement | SVGElement, values: Record<string, string>): void {
  for (const [key, value] of Object.entries(values)) element.style.setProperty(key, value);
}

export function replace(parent: Element, ...children: (Child | Child[])[]): void {
  parent.replaceChildren();
  fill(parent, {}, children);
}

/** Run once in the next frame, however often it is asked for. */
export function eachFrame(work: () => void): () => void {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

export function download(name: string, value: unknown): void {
  const url = URL.createObjectURL(new Blob([JSON.stringify(value, null, 1)], { type: "application/json" }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const ICONS: Record<string, string> = {
  sun: "M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7M8 .8v1.7M8 13.5v1.7M.8 8h1.7M13.5 8h1.7M2.9 2.9l1.2 1.2M11.9 11.9l1.2 1.2M2.9 13.1l1.2-1.2M11.9 4.1l1.2-1.2",
  moon: "M13.6 9.8A6 6 0 0 1 6.2 2.4a6 6 0 1 0 7.4 7.4Z",
  help: "M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.6M8 11.9v.1M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2",
  search: "M7 2a5 5 0 1 0 0 10A5 5 0 0 0 7 2m3.6 8.6L14 14",
  pin: "M8 10.2V15M4.3 10.2h7.4M5.6 1.5h4.8M6.2 1.5v4.2l-1.9 4.5M9.8 1.5v4.2l1.9 4.5",
  down: "M8 1.5v9M4.5 7.2 8 10.7l3.5-3.5M2 14h12",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2 5.5V2h3.5M10.5 2H14v3.5M14 10.5V14h-3.5M5.5 14H2v-3.5",
  group: "M2.5 2.5h7v7h-7zM6.5 9.5v4h7v-7h-4",
  pen: "M2.5 13.5l.7-3L10.600 3.100a1.200 1.200 0 0 1 1.700 0l.6.600a1.200 1.200 0 0 1 0 1.700L5.500 12.800Z",
  check: "M3 8.5l3.2 3.2L13 5",
  cross: "M4 4l8 8M12 4l-8 8",
  wave: "M1.500 8c1.600-4 3.200-4 4.800 0s3.200 4 4.800 0 2.400-3 3.400-2",
  back: "M9.500 3 4.500 8l5 5",
};

export function icon(name: keyof typeof ICONS | string): SVGSVGElement {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    svg("path", { d: ICONS[name] ?? "", fill: "none", stroke: "currentColor", "stroke-width": 1.4, "stroke-linecap": "round", "stroke-linejoin": "round" }),
  );
}
