"""Times the encoders at full size with random weights on windows of 30 s, and compares with the official package of MuQ.

    python tests/benchmarks/encoder.py [--upstreams muq,omar-rq-base] [--precisions fp32,bf16] [--device cpu] [--batch N]
                                       [--threads 2] [--repeats 3] [--official PYTHON]

Every measurement runs in a process of its own, so that peak memory is its own; of the repeats the fastest counts. Prints one
JSON line: per upstream and precision the seconds of layer 0 (front end and stem), of one block, and of all, the seconds up to
layer 6, audio hours per second, and the peak memory in GB (of the process on a CPU, of torch on a GPU). ``matrix_share`` is the
share of the device's matrix rate in that precision: the products that a pass computes (Winograd's, where they stand in for a
convolution), over the time that large square matrices would take for as many. A batch has 1 window on a CPU and 64 on a GPU.

``--official`` names a Python that can import ``muq`` (0.1.0, with transformers < 5), which may live in another environment.
It draws a full-size model, times it in fp32 on the same device, and hands over its weights and hidden states as files; ours
loads the weights and is compared: the largest difference in fp32 and the smallest cosine of a layer in each precision.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

SECONDS = 30
CONFIG = Path(__file__).parents[1] / "fixtures" / "upstreams" / "muq" / "config.json"

OFFICIAL = """
import json, resource, sys, time, torch
from muq import MuQ
from safetensors.torch import save_file
folder, device, batch, threads, repeats = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
gpu = device.startswith("cuda")
torch.backends.cudnn.allow_tf32 = False
torch.set_num_threads(threads)
torch.manual_seed(0)
model = MuQ(json.load(open(folder + "/config.json"))).eval().to(device)
waveform = 0.1 * torch.randn(batch, 720000).to(device)
seconds = []
with torch.no_grad():
    for _ in range(repeats):
        start = time.perf_counter()
        states = model(waveform, output_hidden_states=True).hidden_states
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
peak = torch.cuda.max_memory_allocated() / 1e9 if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
first = {"waveform": waveform} | {str(i): x for i, x in enumerate(states)}
save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder + "/model.safetensors")
save_file({k: x[:1].contiguous() for k, x in first.items()}, folder + "/states.safetensors")
print(json.dumps({"total": min(seconds), "peak_gb": peak}))
"""


def measure(upstream: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the times and the peak memory of one upstream in one precision."""
    from marble.registry import find_upstream, load_upstream

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = load_upstream(upstream) if ":" in upstream else find_upstream(upstream).random()
    parameters = sum(weight.numel() for weight in model.parameters())
    model.prepare(arguments.device, arguments.precisions)
    gpu = torch.device(arguments.device).type == "cuda"
    waveform = 0.1 * torch.randn(arguments.batch, SECONDS * model.info.sample_rate)
    runs = []
    with torch.inference_mode():
        for _ in range(arguments.repeats):
            marks = [time.perf_counter()]
            for _ in model.layers(waveform.to(arguments.device)):
                if gpu:
                    torch.cuda.synchronize()
                marks.append(time.perf_counter())
            runs.append([after - before for before, after in itertools.pairwise(marks)])
    best = min(runs, key=sum)
    peak = torch.cuda.max_memory_allocated() if gpu else 1e3 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "stem": best[0],
        "block": min(best[1:]),
        "to_layer_6": sum(best[:7]),
        "total": sum(best),
        "audio_hours_per_second": arguments.batch * SECONDS / 3600 / sum(best),
        "matrix_share": matrix_work(model, waveform.to(arguments.device))
        / sum(best)
        / matrix_rate(arguments.device, torch.bfloat16 if arguments.precisions == "bf16" else torch.float32),
        "peak_gb": peak / 1e9,
        "parameters": parameters,
    }
    return found | (agreement(model, upstream) if ":" in upstream else {})


def matrix_work(model: Any, waveform: torch.Tensor) -> int:
    """Return the floating-point operations of the products and convolutions of one pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for _ in model.layers(waveform):
            pass
    return counter.get_total_flops()


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of a product of square matrices, the best of several."""
    size = 8192 if torch.device(device).type == "cuda" else 2048
    x = torch.randn(size, size, device=device).to(dtype)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        y = x @ x
        if y.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def agreement(model: Any, upstream: str) -> dict[str, float]:
    """Return how far the hidden states lie from the official ones beside the weights."""
    from safetensors.torch import load_file

    official = load_file(Path(upstream.partition(":")[2]) / "states.safetensors")
    device = next(model.parameters()).device
    with torch.inference_mode():
        pairs = [
            (x.cpu().double(), official[str(i)].double()) for i, x in enumerate(model.layers(official["waveform"].to(device)))
        ]
    return {
        "largest_difference": max(float((ours - theirs).abs().max()) for ours, theirs in pairs),
        "smallest_cosine": min(float(torch.cosine_similarity(*pair, dim=-1).min()) for pair in pairs),
    }


def alone(arguments: argparse.Namespace, upstream: str, precision: str) -> dict[str, Any]:
    """Run `measure` in a process of its own."""
    options = ["--measure", "--upstreams", upstream, "--precisions", precision, "--device", arguments.device]
    for name in ("batch", "threads", "repeats"):
        options += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the measurements of the official package and of ours with its weights."""
    config = json.loads(CONFIG.read_text())
    config |= {"conv_dim": 512, "encoder_dim": 1024, "encoder_depth": 12}
    config["w2v2_config"] |= {"hidden_size": 1024, "intermediate_size": 4096}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        counts = [str(getattr(arguments, name)) for name in ("batch", "threads", "repeats")]
        command = [arguments.official, "-c", OFFICIAL, folder, arguments.device, *counts]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        official = json.loads(done.stdout.splitlines()[-1])
        ours = {precision: alone(arguments, f"muq:{folder}", precision) for precision in arguments.precisions.split(",")}
    for found in ours.values():
        found["times_official"] = official["total"] / found["total"]
    return {"official fp32": official, **ours}


def main() -> None:
    """Parse the command line, measure, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--upstreams", default="muq")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--official")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.batch = arguments.batch or (1 if arguments.device == "cpu" else 64)
    if arguments.measure:
        print(json.dumps(measure(arguments.upstreams, arguments)))
        return
    result: dict[str, Any] = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if arguments.device != "cpu" else torch.backends.cpu.get_cpu_capability(),
        "threads": arguments.threads,
        "batch": arguments.batch,
        "seconds": SECONDS,
    }
    for upstream in arguments.upstreams.split(","):
        result[upstream] = {precision: alone(arguments, upstream, precision) for precision in arguments.precisions.split(",")}
    if arguments.official:
        result["muq beside the official package"] = compare(arguments)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
