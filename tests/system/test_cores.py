"""The number of cores heeds affinity and the limits of containers."""

import os

import pytest

from marble.system.threads import quotas, usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system knows no affinity")
def test_affinity_limits_the_cores():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("files", "own", "limits"),
    [
        ({"cpu.max": "150000 100000\n"}, "0::/\n", [1.5]),
        ({"cpu.max": "max 100000\n"}, "0::/\n", []),
        ({"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "200000 100000\n"}, "0::/a/b\n", [0.5, 2.0]),
        ({"cpu/pod/cpu.cfs_quota_us": "400000\n", "cpu/pod/cpu.cfs_period_us": "100000\n"}, "3:cpuset:/\n1:cpu:/pod\n", [4.0]),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/\n0::/\n", []),
        ({}, "", []),
    ],
)
def test_containers_limit_the_cores(files, own, limits, tmp_path):
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    assert list(quotas(tmp_path / "groups", tmp_path / "own")) == limits


def test_a_system_without_control_groups_has_no_limits(tmp_path):
    assert list(quotas(tmp_path, tmp_path / "absent")) == []
