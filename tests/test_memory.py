"""Peak memory is that of the process; what a training step frees is there for the next one."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from experiments.run.memory import keep_freed_memory
from minigpt import GPT, GPTConfig

model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=192))  # the embedding's gradient takes 39 MB
ids = torch.arange(8).view(1, 8)

def faults():  # pages that the system had to find in three steps
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        model(ids).logsumexp(-1).sum().backward()
        model.zero_grad()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
keep_freed_memory()
faults(), faults()  # until every block has found its place
print(given_back, min(faults() for _ in range(4)))  # one may move once more
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are not told")
def test_a_step_finds_the_memory_of_the_one_before():
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    given_back, kept = map(int, answer.stdout.split())
    assert given_back > 1000 and kept < given_back / 10


PEAK = """
from experiments.run.memory import peak_memory_mib
before = peak_memory_mib()
memory = bytearray(200 << 20)
del memory
print(before, peak_memory_mib())
"""


@pytest.mark.slow
def test_the_peak_is_that_of_the_process_and_stays():
    held = bytearray(1 << 30)  # what the launching process holds does not count
    answer = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, check=True)
    before, peak = map(float, answer.stdout.split())
    assert len(held) == 1 << 30 and before < 700 and 150 < peak - before < 250
