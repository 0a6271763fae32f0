"""What a result says of the machine that made it."""

import torch

from marble.system.machine import provenance


def test_a_result_states_the_threads_and_the_instruction_set_that_its_last_digits_depend_on():
    stated = provenance(torch.device("cpu"))
    assert stated["threads"] == torch.get_num_threads()
    assert stated["instruction_set"] == torch.backends.cpu.get_cpu_capability()
