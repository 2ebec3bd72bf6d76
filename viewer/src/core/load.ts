/** Where the data comes from: inlined in the page, or asked of the local server. */

import type { Entry, Result, Trace } from "./files";
import { type LabelStore, localLabels, servedLabels } from "./labels";

export type Opened = { trace: Trace; labels: LabelStore } | { result: Result };

export interface Source {
  entries: Entry[];
  open(name: string): Promise<Opened>;
}

interface Inlined {
  schema: string;
  entries: Entry[];
  traces: Trace[];
  results?: Result[];
}

export async function findSource(): Promise<Source> {
  const inlined = document.getElementById("cutaway-data")?.textContent;
  if (inlined) return inlinedSource(JSON.parse(inlined) as Inlined);
  return {
    entries: (await getJson("api/entries")) as Entry[],
    async open(name) {
      const found = (await getJson(`api/item?name=${encodeURIComponent(name)}`)) as { trace: Trace } | { result: Result };
      return "trace" in found ? { trace: found.trace, labels: servedLabels(name, found.trace.labels) } : found;
    },
  };
}

function inlinedSource(data: Inlined): Source {
  return {
    entries: data.entries,
    async open(name) {
      const result = data.results?.find((one) => one.name === name);
      if (result) return { result };
      const trace = data.traces.find((one) => one.name === name);
      if (!trace) throw new Error(data.entries.find((one) => one.name === name)?.problem || "This page does not hold that result.");
      return { trace, labels: localLabels(`${trace.manifest.created ?? ""}:${trace.manifest.prompt ?? trace.name}`, trace.labels) };
    },
  };
}

async function getJson(url: string): Promise<unknown> {
  const answer = await fetch(url, { cache: "no-store" });
  if (!answer.ok) throw new Error(await problem(answer));
  return answer.json();
}

export async function problem(answer: Response): Promise<string> {
  const body = (await answer.json().catch(() => null)) as { detail?: unknown } | null;
  return typeof body?.detail === "string" ? body.detail : `The server answered ${answer.status}.`;
}
