/** One opened trace: its graph, the state of the page, and what a user can do. */

import type { FeatureRow, Trace } from "./files";
import { buildGraph, type Graph, type Node } from "./graph";
import type { LabelStore } from "./labels";
import { KIND_WORD, type Name, nodeName, nodeWhere } from "./names";
import { prune, type Shown, startingThresholds } from "./prune";
import { type State, type Store } from "./state";
import { groupKey, suggest, unitsOf } from "./subgraph";

type Event = "hover" | "labels" | "shown" | "notice" | "rename";

export class App {
  readonly graph: Graph;
  readonly suggested: string[];
  /** Where the sliders stand until they are moved. */
  readonly start: { node: number; edge: number };
  shown: Shown;
  hovered: Node | null = null;
  /** The node whose alternatives the left and right arrows walk through, and the way it was left. */
  trail: { from: Node; by: "inputs" | "outputs" } | null = null;
  notice = "";
  private readonly listeners = new Map<Event, (() => void)[]>();
  private readonly names = new Map<string, Name>();

  /** What taking out a link's source did to its target in the model, by `source->target`. */
  readonly measuredEdges = new Map<string, number>();

  constructor(
    readonly trace: Trace,
    readonly labels: LabelStore,
    readonly store: Store,
  ) {
    this.graph = buildGraph(trace.graph);
    const given = (trace.graph.qParams?.pinnedIds ?? []).filter((id) => this.graph.byId.has(id));
    this.start = startingThresholds(this.graph);
    this.suggested = given.length ? given : suggest(this.graph);
    for (const row of trace.evidence.measurements) if (row.kind.startsWith("edge")) this.measuredEdges.set(row.id, row.measured);
    this.shown = this.pruned();
    store.listen((_, changed) => {
      const affects: (keyof State)[] = ["node", "edge", "errors", "biases", "pinned", "groups", "selected"];
      if (!affects.some((key) => changed.has(key))) return;
      this.shown = this.pruned();
      this.tell("shown");
    });
  }

  on(event: Event, listener: () => void): void {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  tell(event: Event): void {
    for (const listener of this.listeners.get(event) ?? []) listener();
  }

  say(notice: string): void {
    this.notice = notice;
    this.tell("notice");
  }

  private pruned(): Shown {
    const { state } = this.store;
    return prune(this.graph, { ...state, ...this.thresholds() }, new Set([...this.pinned(), ...(state.selected ? [state.selected] : [])]));
  }

  thresholds(): { node: number; edge: number } {
    const { node, edge } = this.store.state;
    return { node: node ?? this.start.node, edge: edge ?? this.start.edge };
  }

  get selected(): Node | null {
    const { selected } = this.store.state;
    return selected ? (this.graph.byId.get(selected) ?? null) : null;
  }

  feature(node: Node): FeatureRow | undefined {
    return node.kind === "feature" && Object.hasOwn(this.trace.features, node.key) ? this.trace.features[node.key] : undefined;
  }

  name(node: Node): Name {
    const known = this.names.get(node.key);
    if (known) return known;
    const name = nodeName(this.graph, node, this.labels.get(node.key), this.feature(node));
    this.names.set(node.key, name);
    return name;
  }

  /** A node in words, for those who hear the page. */
  describe(node: Node): string {
    return `${KIND_WORD[node.kind]} ${this.name(node).text}, ${nodeWhere(this.graph, node)}`;
  }

  async relabel(node: Node, text: string): Promise<void> {
    const name = text.trim();
    if (name === (this.labels.get(node.key) ?? "")) return;
    try {
      await this.labels.set(node.key, name);
    } catch (error) {
      this.say((error as Error).message);
    }
    this.names.delete(node.key);
    this.tell("labels");
  }

  hover(node: Node | null): void {
    if (node === this.hovered) return;
    this.hovered = node;
    this.tell("hover");
  }

  select(node: Node | null, trail: App["trail"] = null): void {
    this.trail = trail;
    this.store.set({ selected: node?.id ?? null, ...(node ? { tab: "node" as const } : {}) });
  }

  /** Everything in the subgraph: what the user pinned, or what was suggested, and the groups' nodes. */
  pinned(): string[] {
    const { pinned, groups } = this.store.state;
    return [...new Set([...(pinned ?? this.suggested), ...groups.flatMap((group) => group.ids)])].filter((id) =>
      this.graph.byId.has(id),
    );
  }

  togglePin(node: Node): void {
    const pinned = this.pinned();
    const { groups, marked } = this.store.state;
    if (!pinned.includes(node.id)) return this.store.set({ pinned: [...pinned, node.id] });
    this.store.set({
      pinned: pinned.filter((id) => id !== node.id),
      marked: marked.filter((id) => id !== node.id),
      groups: groups
        .map((group) => ({ ...group, ids: group.ids.filter((id) => id !== node.id) }))
        .filter((group) => group.ids.length > 0),
    });
  }

  toggleMark(ids: string[]): void {
    const { marked } = this.store.state;
    const all = ids.every((id) => marked.includes(id));
    this.store.set({ marked: all ? marked.filter((id) => !ids.includes(id)) : [...new Set([...marked, ...ids])] });
  }

  /** Make one group of the marked nodes, taking them out of the groups they were in. */
  group(): void {
    const { marked, groups } = this.store.state;
    const ids = marked.filter((id) => this.graph.byId.has(id));
    if (ids.length < 2) return this.say("Shift-click at least two nodes, then press G to group them.");
    const rest = groups
      .map((group) => ({ ...group, ids: group.ids.filter((id) => !ids.includes(id)) }))
      .filter((group) => group.ids.length > 0);
    const first = this.graph.byId.get(ids[0]!)!;
    const group = { name: this.name(first).text, ids };
    this.store.set({ groups: [...rest, group], pinned: [...new Set([...this.pinned(), ...ids])], marked: [] });
    this.renaming = groupKey(group);
    this.tell("rename");
  }

  /** The group whose name is being typed. */
  renaming: string | null = null;

  rename(key: string, name: string): void {
    const groups = this.store.state.groups.map((group) =>
      groupKey(group) === key ? { ...group, name: name.trim() || group.name } : group,
    );
    this.store.set({ groups });
  }

  ungroup(key?: string): void {
    const { groups, marked } = this.store.state;
    const wanted = (ids: string[]) => ids.some((id) => marked.includes(id) || id === this.selected?.id);
    const left = groups.filter((group) => (key ? groupKey(group) !== key : !wanted(group.ids)));
    if (left.length === groups.length) return this.say("Select a group first, then press U to take it apart.");
    this.store.set({ groups: left, pinned: this.pinned(), marked: [] });
  }

  /** One step along the graph from the selected node, strongest link first. */
  step(way: "inputs" | "outputs" | -1 | 1): void {
    const { graph } = this;
    const here = this.selected ?? graph.nodes.find((node) => node.isTarget) ?? graph.nodes[0];
    if (!here) return;
    if (!this.selected) return this.select(here);
    if (typeof way === "string") {
      const next = this.neighbours(here, way)[0];
      if (next) this.select(next, { from: here, by: way });
      else this.say(way === "inputs" ? "It has no inputs." : "It has no outputs.");
      return;
    }
    const row = this.trail
      ? this.neighbours(this.trail.from, this.trail.by)
      : graph.nodes
          .filter((node) => node.row === here.row && this.shown.node[node.index])
          .sort((a, b) => (a.position ?? -1) - (b.position ?? -1) || a.influence - b.influence);
    const at = row.indexOf(here);
    const next = row[(at + way + row.length) % row.length];
    if (next) this.select(next, this.trail);
  }

  /** Nodes that feed this one (or that it feeds) over the links shown, strongest first. */
  private neighbours(node: Node, way: "inputs" | "outputs"): Node[] {
    const { graph } = this;
    const end = way === "inputs" ? graph.source : graph.target;
    return graph[way][node.index]!.filter((i) => this.shown.link[i]).map((i) => graph.nodes[end[i]!]!);
  }

  /** What is written over everything this page makes: the trace's prompt, model and dictionary. */
  about(): { prompt: string; model: string; dictionary: string } {
    const { manifest, graph } = this.trace;
    const text = (value: unknown) => (typeof value === "string" && value ? value : undefined);
    return {
      prompt: manifest.prompt ?? graph.metadata.prompt ?? graph.metadata.prompt_tokens.join(""),
      model: text(manifest.model) ?? text((manifest.model as { name?: string } | undefined)?.name) ?? "unnamed",
      dictionary: text(graph.metadata.cutaway?.dictionary) ?? text(manifest.settings?.dictionary) ?? text(graph.metadata.scan) ?? "none",
    };
  }

  units() {
    return unitsOf(this.graph, this.pinned(), this.store.state.groups);
  }
}
