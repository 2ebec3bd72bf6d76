/** Where the data comes from: inlined in the page, or asked of the local server. */

import type { Trace, TraceEntry } from "./files";
import { type LabelStore, localLabels, servedLabels } from "./labels";

export interface Source {
  entries: TraceEntry[];
  open(name: string): Promise<{ trace: Trace; labels: LabelStore }>;
}

interface Inlined {
  schema: string;
  traces: Trace[];
  entries: TraceEntry[];
}

export async function findSource(): Promise<Source> {
  const inlined = document.getElementById("cutaway-data")?.textContent;
  if (inlined) return inlinedSource(JSON.parse(inlined) as Inlined);
  const entries = (await getJson("api/traces")) as TraceEntry[];
  return {
    entries,
    async open(name) {
      const trace = (await getJson(`api/trace?name=${encodeURIComponent(name)}`)) as Trace;
      return { trace, labels: servedLabels(name, trace.labels) };
    },
  };
}

function inlinedSource(data: Inlined): Source {
  return {
    entries: data.entries,
    async open(name) {
      const trace = data.traces.find((one) => one.name === name) ?? data.traces[0];
      if (!trace) throw new Error("This page holds no trace.");
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
