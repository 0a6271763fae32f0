"""The number of threads follows the speed of the steps, and changes no number."""

import pytest
import torch
from sequential import asked
from test_sequential import GROUPS, SETTINGS

from marble.probe.training.bank import train_probes
from marble.probe.training.thread_choice import ThreadChoice


def counts(choice, seconds, steps):
    """The number of threads of each of some steps that take `seconds(threads)`."""
    taken = []
    for _ in range(steps):
        taken.append(choice.count)
        choice.note(seconds(choice.count))
    return taken


@pytest.mark.parametrize(("most", "tried"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])])
def test_each_count_is_tried_once(most, tried):
    assert list(dict.fromkeys(counts(ThreadChoice(most), lambda threads: 1e-3, 100))) == tried


def test_the_fastest_goes_on_until_the_machine_changes():
    choice = ThreadChoice(8)
    assert counts(choice, lambda threads: 1 / threads, 40)[-1] == 8
    busy = counts(choice, lambda threads: 5.0 * threads, 26)
    assert busy[-1] == 1


def test_a_trial_costs_a_small_share():
    taken = counts(ThreadChoice(4), lambda threads: 0.01 * threads, 3000)
    assert taken.count(1) > 0.95 * len(taken)


def test_a_step_has_its_threads_and_leaves_those_of_before():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        choice, taken = ThreadChoice(4), set()
        for _ in range(20):
            with choice.step():
                taken.add(torch.get_num_threads())
        assert taken == {1, 2, 4}
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_the_bank_computes_the_same_bytes_with_any_number_of_threads():
    features, data = asked("multiclass")
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            answers.append(train_probes(features.float(), [0, 1, 2], GROUPS, data, SETTINGS))
    finally:
        torch.set_num_threads(before)
    for others in answers[1:]:
        for first, second in zip(answers[0], others, strict=True):
            assert first.test.numpy().tobytes() == second.test.numpy().tobytes()


def test_one_slow_step_decides_nothing():
    times = iter([9.0, *[1.0] * 4, *[2.0] * 5, *[1.0] * 10])
    choice = ThreadChoice(2)
    for seconds in times:
        choice.note(seconds)
    assert choice.count == 1
