/** The names that the user gives to nodes: saved by the server, or kept by the browser for a page in one file. */

import { problem } from "./load";

export interface LabelStore {
  /** Whether they go into the study's folder; otherwise the browser keeps them and they can be downloaded. */
  readonly served: boolean;
  all(): Readonly<Record<string, string>>;
  get(key: string): string | undefined;
  /** An empty text takes the label away. Rejects with a readable message where it could not be saved. */
  set(key: string, text: string): Promise<void>;
}

export const LONGEST = 200;

function kept(initial: Record<string, string>) {
  const labels: Record<string, string> = { ...initial };
  return {
    labels,
    all: () => labels,
    get: (key: string) => (Object.hasOwn(labels, key) ? labels[key] : undefined),
    put(key: string, text: string) {
      if (text) labels[key] = text;
      else delete labels[key];
    },
  };
}

export function servedLabels(trace: string, initial: Record<string, string>): LabelStore {
  const { all, get, put } = kept(initial);
  return {
    served: true,
    all,
    get,
    async set(key, text) {
      const before = get(key);
      put(key, text);
      try {
        const answer = await fetch("api/labels", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ trace, key, label: text }),
        });
        if (!answer.ok) throw new Error(await problem(answer));
      } catch (error) {
        put(key, before ?? "");
        throw new Error(error instanceof TypeError ? "The server has stopped: the label was not saved." : String((error as Error).message));
      }
    },
  };
}

export function localLabels(name: string, initial: Record<string, string>): LabelStore {
  const slot = `cutaway.labels.${name}`;
  const { all, get, put, labels } = kept(initial);
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(slot) ?? "{}");
    if (stored && typeof stored === "object")
      for (const [key, text] of Object.entries(stored)) if (typeof text === "string") put(key, text);
  } catch {
    // A browser that forbids storage, or text that is not ours: the page works without.
  }
  return {
    served: false,
    all,
    get,
    async set(key, text) {
      put(key, text);
      const changed: Record<string, string> = {};
      for (const one of new Set([...Object.keys(labels), ...Object.keys(initial)]))
        if (labels[one] !== initial[one]) changed[one] = labels[one] ?? "";
      try {
        localStorage.setItem(slot, JSON.stringify(changed));
      } catch {
        throw new Error("This browser keeps nothing for this page: download the labels to keep them.");
      }
    },
  };
}
