"""Dictionaries side by side, as a table in Markdown, from the metrics in their config.json.

python -m cutaway.features.card FOLDER …
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cutaway.core import InputError, read_json

Metrics = Mapping[str, Any]


def card(folders: list[Path]) -> str:
    """One column a dictionary. Raises `InputError` for a folder without metrics."""
    configs = [_config(folder) for folder in folders]
    lines = ["| | " + " | ".join(folder.name for folder in folders) + " |", "|---" * (len(folders) + 1) + "|"]
    for name, figure in _ROWS.items():
        lines.append(f"| {name} | " + " | ".join(figure(config) for config in configs) + " |")
    behaviours = {name for config in configs for name in _behaviours(config)}
    for name in sorted(behaviours):
        found = [_behaviours(config).get(name) for config in configs]
        if any(kept and kept["model"]["value"] > 0 for kept in found):
            lines.append(f"| {name}, replacement / model | " + " | ".join(_accuracy(kept) for kept in found) + " |")
    return "\n".join(lines)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no dictionary of ours (config.json is missing).")
    config: dict[str, Any] = read_json(path)
    if "errors" not in config.get("metrics", {}):
        raise InputError(f"{folder} has no metrics: evaluate it first.")
    return config


def _behaviours(config: Metrics) -> dict[str, Any]:
    found: dict[str, Any] = (config["metrics"].get("replacement") or {}).get("behaviours", {})
    return found


def _interval(estimate: Mapping[str, Any]) -> str:
    span = estimate.get("interval")
    return f"{estimate['value']:.4g}" + (f" [{span['low']:.4g}, {span['high']:.4g}]" if span else "")


def _accuracy(kept: Mapping[str, Any] | None) -> str:
    if kept is None:
        return ""
    ours, span = kept["replacement"], kept["replacement"]["interval"]
    return f"{ours['value']:.3f} [{span['low']:.3f}, {span['high']:.3f}] / {kept['model']['value']:.3f} (n {ours['n']})"


def _errors(which: str, name: str) -> Callable[[Metrics], str]:
    def figure(config: Metrics) -> str:
        e = config["metrics"][which]
        return {
            "all": f"{e['median']['value']:.4f} ({e['lower_quartile']:.4f}-{e['upper_quartile']:.4f})",
            "trimmed": f"{e['trimmed_median']:.4f} "
            f"({e['trimmed_lower_quartile']:.4f}-{e['trimmed_upper_quartile']:.4f})",
            "global": f"{e['normalised_mse']:.4f} ({e['trimmed_normalised_mse']:.4f})",
        }[name]

    return figure


def _replaced(name: str) -> Callable[[Metrics], str]:
    return lambda c: _interval(c["metrics"]["replacement"][name]) if c["metrics"].get("replacement") else ""


def _never(config: Metrics) -> str:
    never = config["metrics"].get("never_fired")
    return f"{never['share']:.2%} of {never['n_tokens']:,} tokens" if never else f"{config['metrics']['dead']:.2%}"


def _by_layer(figure: Callable[[Metrics], float], form: str) -> Callable[[Metrics], str]:
    return lambda c: " ".join(form.format(figure(layer)) for layer in c["metrics"]["layers"])


_ROWS: dict[str, Callable[[Metrics], str]] = {
    "features a layer": lambda c: str(c["n_features"]),
    "tokens trained on": lambda c: f"{c['training'].get('tokens', 0):,}",
    "held-out tokens (rows)": lambda c: f"{c['metrics']['n_tokens']:,} ({c['metrics']['n_rows']})",
    "L0 a layer": lambda c: _interval(c["metrics"]["l0"]),
    "L0 by layer": _by_layer(lambda layer: layer["l0"], "{:.1f}"),
    "never fired": _never,
    "median error per token": lambda c: _interval(c["metrics"]["errors"]["median"]),
    "by layer": _by_layer(lambda layer: layer["errors"]["median"]["value"], "{:.4f}"),
    "median (quartiles)": _errors("errors", "all"),
    "PCA: median (quartiles)": _errors("pca", "all"),
    "without 1 % largest": _errors("errors", "trimmed"),
    "PCA: without 1 % largest": _errors("pca", "trimmed"),
    "normalised MSE (without 1 % largest)": _errors("errors", "global"),
    "PCA: normalised MSE": _errors("pca", "global"),
    "KL, nats": _replaced("kl"),
    "same top token": _replaced("agreement"),
    "same top token, no near ties": _replaced("decided"),
    "rise of cross-entropy, nats": _replaced("cross_entropy_rise"),
}


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(card([Path(argument) for argument in arguments]))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
