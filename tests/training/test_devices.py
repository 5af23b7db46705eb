"""What a run computes on: the device, and the number of threads."""

from __future__ import annotations

import sys

import pytest
import torch

from rl_lab.training.devices import resolve_device, set_threads
from rl_lab.types import UsageError


@pytest.mark.parametrize(
    ("asked", "there", "device"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_auto_takes_cuda_where_it_is(monkeypatch, asked, there, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device(asked) == device


def test_a_learner_without_torch_runs_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delitem(sys.modules, "torch")
    assert resolve_device("auto") == "cpu"


def test_cuda_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"device 'cuda' is not there \(allowed: auto, cpu\)"):
        resolve_device("cuda")


def test_threads_are_limited(request):
    before = torch.get_num_threads()
    request.addfinalizer(lambda: set_threads(before))
    for threads in (2, 1):
        set_threads(threads)
        assert torch.get_num_threads() == threads
