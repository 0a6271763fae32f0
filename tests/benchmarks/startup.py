"""How long ``marble --help`` takes, as a whole process, beside a bare Python.

Prints one JSON line. ``python tests/benchmarks/startup.py [--rounds 11]``
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    commands = {
        "help": [str(Path(sys.executable).with_name("marble")), "--help"],
        "bare_python": [sys.executable, "-c", "pass"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            times[name].append(time.perf_counter() - begin)
    medians = {f"{name}_seconds": round(statistics.median(spent), 4) for name, spent in times.items()}
    print(
        json.dumps({"benchmark": "startup", "rounds": rounds, **medians, "target_seconds": 0.3, "machine": platform.platform()})
    )


if __name__ == "__main__":
    main()
