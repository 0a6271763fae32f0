"""Similarity of every layer to the input from streamed sums, beside plain NumPy on whole matrices.

Prints one JSON line. Streamed: processor seconds for all layers with the null of each, and peak memory above the features.
Plain: processor seconds for each of some layers, without a null, by the same definition; then the ratio for one layer and
the largest difference of values. Plain are, for `pwcca_google`, the steps of google/svcca (`np.cov` of both side by side,
pseudo-inverses, roots, QR of n rows), and for `pwcca_morcos_second` QR decompositions of both representations.

``OMP_NUM_THREADS=1 python tests/benchmarks/cca.py [--frames 100000] [--width 1024] [--layers 13] [--plain 3]``
"""

import argparse
import json
import os
import platform
import time

import numpy as np

from marble.analysis.moments import Moments
from marble.analysis.similarity import similarity_of
from marble.system.machine import memory_now, memory_peak, reset_memory_peak

BANDS = 80
CHUNK = 750  # frames of a window


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--plain", type=int, default=3, help="layers that plain NumPy computes")
    options = parser.parse_args()
    mel, layers = features(options.frames, options.width, options.layers)
    seconds, values, megabytes = {}, {}, {}
    for measure in PLAIN:
        reset_memory_peak()
        before, begin = memory_now(), time.process_time()
        values[measure] = streamed(mel, layers, measure)
        seconds[measure] = (time.process_time() - begin) / len(layers)
        megabytes[measure] = round((memory_peak() - before) / 1e6)
    line: dict[str, object] = {
        "benchmark": "cca",
        **vars(options),
        "bands": BANDS,
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    for measure, plain in PLAIN.items():
        reset_memory_peak()
        before, begin = memory_now(), time.process_time()
        expected = [plain(layer, mel) for layer in layers[: options.plain]]
        plain_seconds = (time.process_time() - begin) / options.plain
        line[measure] = {
            "seconds_for_all_layers": round(seconds[measure] * len(layers), 1),
            "seconds_per_layer": round(seconds[measure], 2),
            "plain_seconds_per_layer": round(plain_seconds, 2),
            "ratio": round(plain_seconds / seconds[measure], 2),
            "megabytes_above_features": megabytes[measure],
            "plain_megabytes_above_features": round((memory_peak() - before) / 1e6),
            "largest_difference": float(max(abs(a - b) for a, b in zip(values[measure], expected, strict=False))),
        }
    print(json.dumps(line | {"machine": platform.platform()}))


def features(frames: int, width: int, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return an input and layers that lose it step by step, float32."""
    random = np.random.default_rng(0)
    mel = random.standard_normal((frames, BANDS), dtype=np.float32)
    layers, hidden = [], np.pad(mel, ((0, 0), (0, width - BANDS)))
    for _ in range(count):
        hidden = hidden @ (random.standard_normal((width, width), dtype=np.float32) / np.float32(np.sqrt(width)))
        hidden += 0.3 * random.standard_normal((frames, width), dtype=np.float32)
        layers.append(hidden)
    return mel, layers


def streamed(mel: np.ndarray, layers: list[np.ndarray], measure: str) -> list[float]:
    names = [f"layer {number}" for number in range(len(layers))]
    moments = Moments([(name, "input") for name in names], lag=CHUNK)
    for begin in range(0, len(mel), CHUNK):
        part = slice(begin, begin + CHUNK)
        moments.add({"input": mel[part]} | {name: layer[part] for name, layer in zip(names, layers, strict=True)})
    moments.finish()
    return [similarity_of(moments, name, "input", [measure]).values[measure] for name in names]


def google(x: np.ndarray, y: np.ndarray) -> float:
    """Return `pwcca_google` by its steps, for more units in x than in y."""
    covariance = np.cov(x.T, y.T)
    width = x.shape[1]
    own, cross, other = covariance[:width, :width], covariance[:width, width:], covariance[width:, width:]
    left, right = root(np.linalg.pinv(own)), root(np.linalg.pinv(other))
    _, correlations, directions = np.linalg.svd(left @ cross @ right, full_matrices=False)
    mean = y.mean(0, dtype=np.float64)
    basis, _ = np.linalg.qr((y - mean) @ directions.T + mean)
    weights = np.abs(basis.T @ y).sum(1)
    return float(weights @ correlations / weights.sum())


def morcos(x: np.ndarray, y: np.ndarray) -> float:
    """Return `pwcca_morcos_second` by QR decompositions."""
    first, _ = np.linalg.qr(x - x.mean(0, dtype=np.float64))
    centred = y - y.mean(0, dtype=np.float64)
    second, _ = np.linalg.qr(centred)
    _, correlations, right = np.linalg.svd(first.T @ second, full_matrices=False)
    weights = np.abs((second @ right.T).T @ centred).sum(1)
    return float(weights @ correlations / weights.sum())


def root(matrix: np.ndarray) -> np.ndarray:
    """Return the root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values) @ vectors.T


PLAIN = {"pwcca_google": google, "pwcca_morcos_second": morcos}


if __name__ == "__main__":
    main()
