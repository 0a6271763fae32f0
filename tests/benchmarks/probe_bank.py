"""The probe bank against one scikit-learn `MLPClassifier` for each probe: same features, epochs, batches and rates.

The two take turns; scikit-learn works in a process of its own, so that neither waits for the threads of the other.
Prints one JSON line. ``python tests/benchmarks/probe_bank.py [--width 1024] [--windows 1024] [--layers 1] [--device cpu]``
"""

import argparse
import json
import platform
import subprocess
import sys
import time
import warnings

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier

from marble.probe.answers import Group
from marble.probe.inputs import Examples, ProbeData
from marble.probe.protocol import Probe
from marble.probe.training.bank import train_probes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--windows", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sklearn", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = Probe(epochs=options.epochs, patience=options.epochs)
    features = torch.randn(options.layers, options.windows + 64, options.width, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(options.windows + 64) % options.classes
    groups = [Group(layer, seed) for layer in range(options.layers) for seed in range(options.seeds)]
    if options.sklearn:
        time_sklearn(features[0, : options.windows].numpy(), targets[: options.windows].numpy(), settings)
        print(time_sklearn(features[0, : options.windows].numpy(), targets[: options.windows].numpy(), settings))
        return
    ratios, banks, singles = [], [], []
    time_bank(features, targets, groups, settings, options)
    for _ in range(options.rounds):
        banks.append(time_bank(features, targets, groups, settings, options))
        alone = subprocess.run([sys.executable, *sys.argv, "--sklearn"], capture_output=True, text=True, check=True)
        singles.append(float(alone.stdout))
        ratios.append(singles[-1] * len(groups) / banks[-1])
    print(
        json.dumps(
            {
                "benchmark": "probe_bank",
                "probes": len(groups) * len(settings.learning_rates),
                **vars(options),
                "bank_seconds": round(float(np.median(banks)), 3),
                "sklearn_seconds": round(float(np.median(singles)) * len(groups), 3),
                "times_faster": round(float(np.median(ratios)), 2),
                "times_faster_each_round": [round(ratio, 2) for ratio in ratios],
                "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
            }
        )
    )


def time_bank(features: torch.Tensor, targets: torch.Tensor, groups: list[Group], settings: Probe, options) -> float:
    """Seconds to train all probes at once."""
    device = torch.device(options.device)
    rows = torch.arange(len(targets), device=device)
    train, held = rows[: options.windows], rows[options.windows :]
    targets = targets.to(device)
    splits = [Examples(part, torch.arange(len(part), device=device), targets[part]) for part in (train, held, held)]
    data = ProbeData("benchmark", "multiclass", options.classes, "accuracy", *splits)
    features = features.to(device)
    begin = time.perf_counter()
    train_probes(features, list(range(len(features))), groups, data, settings)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def time_sklearn(features: np.ndarray, targets: np.ndarray, settings: Probe) -> float:
    """Seconds for the six learning rates of one group, one after another, in float32 as the bank computes."""
    begin = time.perf_counter()
    for rate in settings.learning_rates:
        probe = MLPClassifier(
            (settings.hidden,),
            batch_size=settings.batch_size,
            learning_rate_init=rate,
            max_iter=settings.epochs,
            alpha=0.0,
            tol=0.0,
            n_iter_no_change=settings.epochs + 1,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probe.fit(features, targets)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
