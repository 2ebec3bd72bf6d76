/** What a trace's files hold, as they lie on disk. Fields that a foreign file may lack are optional. */

export interface NodeRow {
  node_id: string;
  layer: string;
  ctx_idx: number | null;
  feature_type: string;
  feature?: number | null;
  token_prob?: number | null;
  is_target_logit?: boolean;
  clerp?: string | null;
  influence?: number | null;
  activation?: number | null;
  kind?: string;
  pre_activation?: number | null;
  remainder?: number | null;
  /** Share of the output's influence that flows through the node, and its signed effect over all paths, in logits. */
  influence_share?: number | null;
  effect?: number | null;
}

export interface LinkRow {
  source: string;
  target: string;
  weight: number;
  influence?: number | null;
}

export interface CutawayMetadata {
  schema?: string;
  accounting?: { nodes: number; max_error: number };
  scores?: Record<string, number | null>;
  logits?: [string, number][];
  target?: unknown;
  controls?: Record<string, unknown>;
  dictionary?: string;
}

export interface GraphFile {
  metadata: {
    slug?: string;
    scan?: string;
    prompt?: string;
    prompt_tokens: string[];
    cutaway?: CutawayMetadata;
  };
  qParams?: { pinnedIds?: string[]; supernodes?: string[][] };
  nodes: NodeRow[];
  links: LinkRow[];
}

export interface Example {
  tokens: string[];
  tokens_acts_list: number[];
  train_token_ind?: number;
}

export interface FeatureRow {
  label?: string;
  examples_quantiles?: { quantile_name: string; examples: Example[] }[];
  top_logits?: (string | [string, number])[];
  bottom_logits?: (string | [string, number])[];
  act_min?: number;
  act_max?: number;
  histogram?: number[];
  /** The histogram's edges, where there is one more of them than bins. */
  quantile_values?: number[];
  activation_frequency?: number;
}

export interface IntervalRow {
  low: number | null;
  high: number | null;
  level: number;
  method: string;
}

export interface EstimateRow {
  name: string;
  value: number | null;
  interval: IntervalRow | null;
  n: number;
  unit: string;
  note: string;
}

export interface ComparisonRow {
  estimate: EstimateRow;
  difference: IntervalRow | null;
}

export type Verdict =
  | "distinguishable from null"
  | "not distinguishable from null"
  | "beaten by a baseline"
  | "no null was run"
  | "undefined";

export interface EvidenceRow {
  claim: string;
  effect: EstimateRow;
  nulls: ComparisonRow[];
  baselines: ComparisonRow[];
  seeds: number[];
  how: string;
  settings: Record<string, unknown>;
  second_data: EstimateRow | null;
  paraphrase: EstimateRow | null;
  residual_tail: { item: string; predicted: number | null; measured: number | null }[];
  not_done: { what: string; why: string }[];
  verdict: Verdict;
  verdict_text: string;
}

/** One intervention in the real model. Kinds: feature, sample, random; edge, edge sample. */
export interface Measurement {
  kind: string;
  id: string;
  label?: string;
  target: string;
  predicted: number;
  measured: number;
}

export interface EvidenceFile {
  evidence: EvidenceRow[];
  measurements: Measurement[];
}

export interface Manifest {
  model?: string | { name?: string };
  settings?: Record<string, unknown>;
  prompt?: string;
  created?: string;
  command?: string;
}

/** One trace with everything the page shows of it. */
export interface Trace {
  name: string;
  manifest: Manifest;
  graph: GraphFile;
  features: Record<string, FeatureRow>;
  evidence: EvidenceFile;
  labels: Record<string, string>;
}

/** A line of the list that a folder of several results opens with. */
export interface Entry {
  name: string;
  kind: string;
  schema: string;
  title: string;
  verdict: string;
  prompt: string;
  model: string;
  created: string;
  /** Why it cannot be opened. */
  problem: string;
}

/** Any result but a trace: its JSON as it lies on disk, unread. */
export interface Result {
  name: string;
  schema: string;
  file: string;
  manifest: Manifest;
  body: Record<string, unknown>;
  pictures: { name: string; data: string }[];
}
