/** A graph small enough to check by hand, in the file's own form. */

import type { GraphFile, LinkRow, NodeRow } from "../src/core/files";

export function node(id: string, kind: string, layer: string, position: number, more: Partial<NodeRow> = {}): NodeRow {
  return { node_id: id, kind, layer, ctx_idx: position, feature_type: kind, influence: 0.5, influence_share: 0.1, ...more };
}

export function link(source: string, target: string, weight: number, influence = 0.5): LinkRow {
  return { source, target, weight, influence };
}

/** Two tokens, features a (layer 0) and b (layer 1), an error, a bias, two outputs of a model of two layers. */
export function smallFile(): GraphFile {
  return {
    metadata: { prompt_tokens: ["one", " two"] },
    nodes: [
      node("E_5_0", "embedding", "E", 0),
      node("E_6_1", "embedding", "E", 1),
      node("0_7_1", "feature", "0", 1, { influence: 0.3, activation: 2.5, pre_activation: 2.5, remainder: -0.5 }),
      node("0_-1_1", "error", "0", 1, { influence: 0.6 }),
      node("B_1_mlp_*", "bias", "1", 1, { influence: 1 }),
      node("1_8_1", "feature", "1", 1, { influence: 0.7, activation: 1, pre_activation: 1 }),
      node("3_9_1", "logit", "3", 1, { token_prob: 0.75, is_target_logit: true, clerp: 'Output " three" (p=0.750)', pre_activation: 4 }),
      node("3_4_1", "logit", "3", 1, { token_prob: 0.25, clerp: 'Output " four" (p=0.250)' }),
    ],
    links: [
      link("E_5_0", "0_7_1", 1, 0.2),
      link("E_6_1", "0_7_1", 2, 0.1),
      link("0_7_1", "1_8_1", 1.5, 0.3),
      link("0_-1_1", "1_8_1", -1, 0.7),
      link("B_1_mlp_*", "1_8_1", 0.5, 0.95),
      link("1_8_1", "3_9_1", 3, 0.4),
      link("0_7_1", "3_9_1", 1, 0.6),
      link("0_7_1", "3_4_1", -2, 0.9),
    ],
  };
}
