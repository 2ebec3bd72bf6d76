/** Links as curves on two canvases: all of them, quiet; and those of the node in focus, above. */

import type { App } from "../core/app";
import type { Node as GraphNode } from "../core/graph";
import type { Layout } from "../core/layout";
import { eachFrame } from "./dom";

/** Pan and zoom: screen = world * k + (x, y). */
export interface Box {
  k: number;
  x: number;
  y: number;
}

/** Links are painted in levels of strength, and within a level in turns, so that neither sign covers the other. */
const LEVELS = 6;
const TURNS = 4;
/** From this many links of a level on, each is painted fainter. */
const CROWD = 300;
const FAINTEST = 0.2;
/** Above this many links a drag moves the painted picture and paints again when it rests. */
const MANY = 4000;

export class LinkCanvas {
  private at: Layout | null = null;
  private room = { width: 0, height: 0 };
  private box: Box = { k: 1, x: 0, y: 0 };
  private painted: Box = { k: 1, x: 0, y: 0 };
  private resting = 0;
  private readonly paintBase = eachFrame(() => this.base());
  private readonly paintFocus = eachFrame(() => this.overlay());

  constructor(
    private readonly app: App,
    private readonly below: HTMLCanvasElement,
    private readonly above: HTMLCanvasElement,
  ) {}

  layout(at: Layout, room: { width: number; height: number }): void {
    this.at = at;
    this.room = room;
    this.repaint();
  }

  repaint(): void {
    this.paintBase();
    this.paintFocus();
  }

  focus(): void {
    this.paintFocus();
    const busy = this.app.selected !== null;
    this.below.classList.toggle("faded", busy);
  }

  move(box: Box): void {
    this.box = box;
    this.paintFocus();
    if (this.app.shown.links <= MANY) return this.paintBase();
    const k = box.k / this.painted.k;
    const [x, y] = [box.x - this.painted.x * k, box.y - this.painted.y * k];
    this.below.style.transform = `translate(${x}px,${y}px) scale(${k})`;
    clearTimeout(this.resting);
    this.resting = window.setTimeout(() => this.paintBase(), 90);
  }

  /** For the node in focus: each neighbour's signed share, inputs as shares of its input, outputs of the target's. */
  tones(node: GraphNode | null): Map<number, number> {
    const tones = new Map<number, number>();
    if (!node) return tones;
    const { graph, shown } = this.app;
    const add = (other: number, i: number) => tones.set(other, Math.sign(graph.weight[i]!) * graph.linkShare[i]!);
    for (const i of graph.inputs[node.index]!) if (shown.link[i]) add(graph.source[i]!, i);
    for (const i of graph.outputs[node.index]!) if (shown.link[i]) add(graph.target[i]!, i);
    return tones;
  }

  private prepare(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const [width, height] = [Math.round(this.room.width * ratio), Math.round(this.room.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      canvas.style.width = `${this.room.width}px`;
      canvas.style.height = `${this.room.height}px`;
    }
    const context = canvas.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    const { k, x, y } = this.box;
    context.setTransform(ratio * k, 0, 0, ratio * k, ratio * x, ratio * y);
    context.lineCap = "round";
    return context;
  }

  private colour(name: string): string {
    return getComputedStyle(this.below).getPropertyValue(name).trim();
  }

  private base(): void {
    const { at } = this;
    if (!at) return;
    clearTimeout(this.resting);
    this.painted = this.box;
    this.below.style.transform = "";
    const { graph, shown } = this.app;
    const context = this.prepare(this.below);
    let most = 1e-12;
    for (let i = 0; i < graph.source.length; i++) if (shown.link[i]) most = Math.max(most, graph.linkOwn[i]!);
    const paths = Array.from({ length: LEVELS * TURNS * 2 }, () => new Path2D());
    const counts = new Array<number>(LEVELS).fill(0);
    for (let i = 0; i < graph.source.length; i++) {
      if (!shown.link[i]) continue;
      const level = Math.min(LEVELS - 1, Math.floor(Math.sqrt(graph.linkOwn[i]! / most) * LEVELS));
      counts[level]!++;
      this.curve(paths[(level * TURNS + (i % TURNS)) * 2 + (graph.weight[i]! > 0 ? 0 : 1)]!, i);
    }
    const colours = [this.colour("--pos"), this.colour("--neg")];
    for (const [at, path] of paths.entries()) {
      const level = Math.floor(at / (2 * TURNS));
      const crowd = Math.max(FAINTEST, Math.min(1, Math.sqrt(CROWD / Math.max(1, counts[level]!))));
      context.strokeStyle = colours[at % 2]!;
      context.globalAlpha = Math.min(0.85, 0.12 + 0.13 * level) * crowd;
      context.lineWidth = (0.8 + 0.5 * level) * (0.5 + 0.5 * crowd);
      context.stroke(path);
    }
  }

  private overlay(): void {
    if (!this.at) return;
    const context = this.prepare(this.above);
    const { selected, hovered, shown, graph } = this.app;
    const draw = (node: GraphNode, strength: number) => {
      for (const i of [...graph.inputs[node.index]!, ...graph.outputs[node.index]!].reverse()) {
        if (!shown.link[i]) continue;
        const share = graph.linkShare[i]!;
        const path = new Path2D();
        this.curve(path, i);
        context.strokeStyle = this.colour(graph.weight[i]! > 0 ? "--pos" : "--neg");
        context.globalAlpha = strength * Math.min(1, 0.25 + 2.2 * share);
        context.lineWidth = 0.8 + Math.min(7, 16 * share);
        context.stroke(path);
      }
    };
    if (selected) draw(selected, 0.95);
    if (hovered && hovered !== selected) draw(hovered, selected ? 0.45 : 0.85);
  }

  private curve(path: Path2D, i: number): void {
    const { x, y } = this.at!;
    const [from, to] = [this.app.graph.source[i]!, this.app.graph.target[i]!];
    const [x1, y1, x2, y2] = [x[from]!, y[from]!, x[to]!, y[to]!];
    const bend = (y1 - y2) * 0.45;
    path.moveTo(x1, y1);
    path.bezierCurveTo(x1, y1 - bend, x2, y2 + bend, x2, y2);
  }
}
