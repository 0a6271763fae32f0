"""The machine: device, memory, and its part of a result's provenance."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch

from marble.errors import MarbleError

_LIBRARIES = ("marble", "torch", "numpy", "soundfile", "soxr", "safetensors", "pyarrow", "pandas")


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` is the first GPU, or else the CPU.

    For a GPU this switches TF32 off in the whole process, so that fp32 means fp32.

    Raises:
        MarbleError: there is no such device.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MarbleError(f"'{name}' is no device: write auto, cpu, cuda or cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise MarbleError(f"marble does not run on '{name}': write auto, cpu, cuda or cuda:N.")
    if device.type == "cuda":
        if not available or (device.index or 0) >= torch.cuda.device_count():
            raise MarbleError(f"There is no device '{name}': torch sees {torch.cuda.device_count()} GPUs; use --device cpu.")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether bfloat16 can be faster on a device: a CPU without AVX512 or the like computes it in software."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def free_memory(device: torch.device) -> int:
    """Return the free memory of a device in bytes; on a GPU it includes memory that torch has reserved and not used."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def reset_memory_peak() -> None:
    """Let `memory_peak` begin anew; that of a process begins anew on Linux alone."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory_peak() -> int:
    """Return the peak memory of this process in bytes; that of the GPU if it used one."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return _process_memory("VmHWM")


def memory_now() -> int:
    """Return the present memory of this process in bytes; that of the GPU if it used one."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.memory_allocated()
    return _process_memory("VmRSS")


def _process_memory(name: str) -> int:
    """Return a line of Linux's account of this process, in bytes; elsewhere the peak of the whole process."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def provenance(device: torch.device) -> dict[str, object]:
    """Return versions, commit, platform and device, as they stand in a result."""
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        "commit": _commit(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
    }


def _commit() -> str | None:
    """Return the commit of marble's own source, with "+changes" where it was edited; None where it is no checkout."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", f"--git-dir={root}/.git", f"--work-tree={root}", "describe", "--always", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run([*command, "--dirty=+changes"], capture_output=True, text=True, timeout=10, check=True)
        return answer.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
