/** A result page's state, kept in the URL's hash: `#open=name&view=table&at=1.2`. A hash is anyone's text. */

type Listener = (changed: ReadonlySet<string>) => void;

export class Params {
  private values: URLSearchParams;
  private readonly listeners: Listener[] = [];

  constructor() {
    this.values = new URLSearchParams(location.hash.slice(1));
  }

  get(key: string, otherwise = ""): string {
    return this.values.get(key) ?? otherwise;
  }

  /** One of the words allowed, else the first of them. */
  choice<T extends string>(key: string, allowed: readonly T[]): T {
    const value = this.get(key) as T;
    return allowed.includes(value) ? value : allowed[0]!;
  }

  /** A whole number within [low, high], else null. */
  whole(key: string, low: number, high: number): number | null {
    const value = this.values.get(key);
    if (value === null || !/^-?\d{1,9}$/.test(value)) return null;
    return Math.min(high, Math.max(low, Number(value)));
  }

  /** Writes what changed; an empty value takes the key out. `step`: a place to come back to with the back button. */
  set(patch: Record<string, string | number | null>, step = false): void {
    const changed = new Set<string>();
    for (const [key, value] of Object.entries(patch)) {
      const said = value === null ? "" : String(value);
      if (said === this.get(key)) continue;
      changed.add(key);
      if (said) this.values.set(key, said);
      else this.values.delete(key);
    }
    if (!changed.size) return;
    const said = this.values.toString();
    const url = said ? `#${said}` : location.pathname + location.search;
    if (step) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
    for (const listener of [...this.listeners]) listener(changed);
  }

  /** After the address was changed by hand or by the back button. */
  reread(): void {
    const before = this.values;
    this.values = new URLSearchParams(location.hash.slice(1));
    const keys = new Set([...before.keys(), ...this.values.keys()]);
    const changed = new Set([...keys].filter((key) => before.get(key) !== this.values.get(key)));
    if (changed.size) for (const listener of [...this.listeners]) listener(changed);
  }

  listen(listener: Listener): void {
    this.listeners.push(listener);
  }
}

/** The address of another result of this study, in a state of its own. */
export function linkTo(name: string, state: Record<string, string | number> = {}): string {
  const values = new URLSearchParams({ open: name });
  for (const [key, value] of Object.entries(state)) values.set(key, String(value));
  return `#${values}`;
}
