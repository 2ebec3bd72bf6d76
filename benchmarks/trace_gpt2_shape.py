"""Time and memory of building a graph at GPT-2-small's shape, and how they grow.

    python benchmarks/trace_gpt2_shape.py                          # every active feature a node
    python benchmarks/trace_gpt2_shape.py --max-features 7500      # the most influential ones; the rest is error

Random weights (12 layers, d 768, 12 heads), random per-layer ReLU transcoders of 24,576 features, 64 random tokens,
about 16 active features a position and layer. `arithmetic` is what the sweep must do at the least, in GFLOP: per target
and layer below it, two products with the heads' value and output matrices and one with the pattern at every position up
to its own, and one product with every vector written there. Peak memory is of the whole process, weights included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--features", type=int, default=24_576)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--active", type=int, default=16)
    parser.add_argument("--max-features", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    import cutaway as cw
    from cutaway.features import Layer, Transcoders
    from cutaway.graphs.trace import graph_of

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    vocabulary = 50_257
    config = GPT2Config(
        n_layer=args.layers, n_embd=args.d, n_head=args.d // 64, n_positions=max(1024, args.tokens)
    )  # fmt: skip
    model = cw.load(GPT2LMHeadModel(config).eval())
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(1, vocabulary, (args.tokens,), generator=g)
    run = model.run(ids[None], read=["mlp_in.*"])
    layers = []
    for layer in range(args.layers):
        encoder = torch.nn.functional.normalize(torch.randn(args.features, args.d, generator=g), dim=-1)
        pre = run[f"mlp_in.{layer}"][0] @ encoder.T
        bias = torch.full((args.features,), -float(pre.topk(args.active, dim=1).values[:, -1].median()))
        decoder = 0.05 * torch.randn(args.features, 1, args.d, generator=g)
        layers.append(Layer(W_enc=encoder, b_enc=bias, W_dec=decoder, b_dec=0.01 * torch.randn(args.d, generator=g)))
    dictionary = Transcoders(kind="plt", rule="relu", layers=tuple(layers))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

    begun, cpu = time.perf_counter(), time.process_time()
    graph = graph_of(model, ids, dictionary, max_features=args.max_features)
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(
        json.dumps(
            {
                "machine": f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {args.threads} threads",
                "active_features": graph.n_active,
                "unexplored": graph.n_unexplored,
                "edges": int(graph.edges.nnz),
                "seconds": wall,
                "cpu_seconds": cpu,
                "arithmetic_gflop": arithmetic(graph, args) / 1e9,
                "gflop_a_cpu_second": arithmetic(graph, args) / 1e9 / cpu,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
                "mib_before": before,
                "graph_mib": (graph.edges.data.nbytes + graph.edges.indices.nbytes) >> 20,
                "accounting": dict(graph.accounting),
            },
            indent=2,
        )
    )


def arithmetic(graph, args: argparse.Namespace) -> float:
    """Floating-point operations that one sweep over the graph's targets must make."""

    nodes, targets = graph.nodes, graph.nodes.has_inputs
    positions, layers = nodes.position[targets] + 1, nodes.layer[targets]
    # A target's first attention costs one row; below that its gradient lies at `positions` positions, and the lowest
    # attention needs one of the two products.
    lower = layers - (layers == args.layers)
    pushes = ((lower - 0.5 * (lower > 0)) * positions).sum() + targets.sum() * 2
    through = pushes * (4 * args.d * args.d + 2 * args.d * positions.mean())
    return float(through + 2.0 * args.d * graph.edges.nnz)


if __name__ == "__main__":
    main()
