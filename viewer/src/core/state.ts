/** What the page shows, kept in the URL's hash so that a link or a reload brings it back. */

import type { Theme } from "./theme";

export interface Group {
  name: string;
  ids: string[];
}

export type Tab = "node" | "evidence";

export interface State {
  trace: string;
  selected: string | null;
  /** null: the suggested nodes, until the user changes them. */
  pinned: string[] | null;
  groups: Group[];
  /** Where the user dragged a unit of the subgraph to: key -> [x, y] in pixels. */
  moved: Record<string, [number, number]>;
  /** null: where the page starts with this graph (`startingThresholds`). */
  node: number | null;
  edge: number | null;
  errors: boolean;
  biases: boolean;
  theme: Theme;
  tab: Tab;
  /** Nodes marked for grouping; not kept in the URL. */
  marked: string[];
}

export const DEFAULTS: State = {
  trace: "",
  selected: null,
  pinned: null,
  groups: [],
  moved: {},
  node: null,
  edge: null,
  errors: true,
  biases: true,
  theme: "auto",
  tab: "node",
  marked: [],
};

const text = (value: string) => encodeURIComponent(value).replace(/~/g, "%7E").replace(/[!'()*]/g, percent);
const percent = (letter: string) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`;

/** `#sel=…&pin=a,b&g=name~a~b`; only what differs from the defaults is written. */
export function encodeState(state: State): string {
  const parts: string[] = [];
  const say = (key: string, value: string) => parts.push(`${key}=${value}`);
  if (state.trace) say("trace", text(state.trace));
  if (state.selected) say("sel", text(state.selected));
  if (state.pinned) say("pin", state.pinned.map(text).join(","));
  if (state.groups.length) say("g", state.groups.map((group) => [group.name, ...group.ids].map(text).join("~")).join(","));
  const moved = Object.entries(state.moved);
  if (moved.length) say("xy", moved.map(([key, [x, y]]) => `${text(key)}~${Math.round(x)}~${Math.round(y)}`).join(","));
  if (state.node !== null) say("node", String(state.node));
  if (state.edge !== null) say("edge", String(state.edge));
  const hide = [state.errors ? "" : "errors", state.biases ? "" : "biases"].filter(Boolean);
  if (hide.length) say("hide", hide.join(","));
  if (state.theme !== DEFAULTS.theme) say("theme", state.theme);
  if (state.tab !== DEFAULTS.tab) say("tab", state.tab);
  return parts.length ? `#${parts.join("&")}` : "";
}

/** Reads what `encodeState` wrote. What it cannot read it leaves at its default: a hash is anyone's text. */
export function decodeState(hash: string): State {
  const state: State = { ...DEFAULTS, groups: [], moved: {}, marked: [] };
  for (const part of hash.replace(/^#/, "").split("&")) {
    const cut = part.indexOf("=");
    if (cut < 0) continue;
    const value = part.slice(cut + 1);
    switch (part.slice(0, cut)) {
      case "trace":
        state.trace = plain(value);
        break;
      case "sel":
        state.selected = plain(value) || null;
        break;
      case "pin":
        state.pinned = [...new Set(list(value))];
        break;
      case "g":
        state.groups = readGroups(value);
        break;
      case "xy":
        state.moved = readMoved(value);
        break;
      case "node":
        state.node = fraction(value);
        break;
      case "edge":
        state.edge = fraction(value);
        break;
      case "hide":
        state.errors = !value.split(",").includes("errors");
        state.biases = !value.split(",").includes("biases");
        break;
      case "theme":
        if (value === "light" || value === "dark") state.theme = value;
        break;
      case "tab":
        if (value === "evidence") state.tab = value;
        break;
    }
  }
  return state;
}

function readGroups(value: string): Group[] {
  const taken = new Set<string>();
  return value
    .split(",")
    .map((part) => part.split("~").map(plain))
    .map(([name = "", ...ids]) => ({ name, ids: ids.filter((id) => id && !taken.has(id) && taken.add(id)) }))
    .filter((group) => group.ids.length > 0);
}

function readMoved(value: string): State["moved"] {
  const moved: State["moved"] = {};
  for (const part of value.split(",")) {
    const [key = "", x, y] = part.split("~");
    const [left, top] = [Number(x), Number(y)];
    if (key && x && y && Number.isFinite(left) && Number.isFinite(top)) moved[plain(key)] = [left, top];
  }
  return moved;
}

function list(value: string): string[] {
  return value.split(",").map(plain).filter(Boolean);
}

function fraction(value: string): number | null {
  const number = Number(value);
  return value.trim() !== "" && Number.isFinite(number) ? Math.min(1, Math.max(0, number)) : null;
}

function plain(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

type Listener = (state: State, changed: ReadonlySet<keyof State>) => void;

/** One state, told to all who listen. */
export class Store {
  private listeners: Listener[] = [];

  constructor(public state: State) {}

  set(patch: Partial<State>): void {
    const changed = new Set<keyof State>();
    for (const key of Object.keys(patch) as (keyof State)[]) if (patch[key] !== this.state[key]) changed.add(key);
    if (!changed.size) return;
    this.state = { ...this.state, ...patch };
    for (const listener of [...this.listeners]) listener(this.state, changed);
  }

  listen(listener: Listener): void {
    this.listeners.push(listener);
  }
}
