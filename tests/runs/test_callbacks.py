"""Callbacks by themselves: who is called with what, who asks to stop, and what isn't touched."""

from __future__ import annotations

import random
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from rl_lab.runs.callbacks import CallbackFailed, Callbacks, untouched_generators
from rl_lab.types import UsageError


class OnlyEvaluations:
    """Wants to hear of evaluations alone."""

    def __init__(self):
        self.heard = []

    def on_evaluation(self, event):
        self.heard.append(event.row)


def tell_all(callbacks):
    return [callbacks.tell(kind, {"env_steps": 5}, 100) for kind in ("row", "evaluation", "checkpoint")]


def test_a_function_hears_of_everything_and_an_object_of_what_it_has_methods_for(tmp_path):
    heard, other = [], OnlyEvaluations()
    callbacks = Callbacks([heard.append, other])
    callbacks.run_dir = tmp_path
    assert tell_all(callbacks) == [False, False, False]
    assert [event.kind for event in heard] == ["row", "evaluation", "checkpoint"]
    assert {(event.env_steps, event.total_steps, event.run_dir) for event in heard} == {(5, 100, tmp_path)}
    assert other.heard == [{"env_steps": 5}]


def test_each_gets_a_copy_of_its_own():
    row, seen = {"env_steps": 1, "eval_returns": [1.0, 2.0]}, []

    def spoils(event):
        event.row["eval_returns"].append(3.0)
        del event.row["env_steps"]

    Callbacks([spoils, lambda event: seen.append(event.row)]).tell("evaluation", row, 9)
    assert seen == [row] == [{"env_steps": 1, "eval_returns": [1.0, 2.0]}]


class TestAskingToStop:
    @pytest.mark.parametrize(("answer", "stops"), [(False, True), (np.False_, True), (True, False), (None, False),
                                                   (0, False)])  # fmt: skip
    def test_only_false_does(self, answer, stops):
        def patience(event):
            return answer

        callbacks = Callbacks([patience])
        assert callbacks.tell("row", {"env_steps": 5}, 9) is stops
        assert callbacks.asked == ("callback patience" if stops else None)

    def test_a_reason_is_one_line_and_the_first_one_counts(self):
        def early(event):
            event.stop("good\nenough")

        def late(event):
            event.stop("too late")

        callbacks = Callbacks([early, late])
        assert tell_all(callbacks) == [True, False, False]
        assert callbacks.asked == "callback early: good enough"


def test_after_an_exception_none_is_called_again_and_the_run_is_asked_to_stop():
    heard = []

    def breaks(event):
        raise KeyError("no\nkey")

    callbacks = Callbacks([breaks, heard.append])
    assert tell_all(callbacks) == [True, False, False]
    assert heard == []
    assert isinstance(callbacks.error, CallbackFailed)
    assert str(callbacks.error) == "callback breaks failed at env step 5: KeyError: 'no\\nkey'"
    assert isinstance(callbacks.error.__cause__, KeyError)


def test_generators_are_as_they_were_even_after_an_error():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with suppress(ZeroDivisionError), untouched_generators():
        draw()
        random.seed(7), np.random.seed(7), torch.manual_seed(7)  # noqa: NPY002
        raise ZeroDivisionError
    assert draw() == expected


def test_numbers_of_threads_are_as_they_were_even_after_an_error():
    def breaks(event):
        torch.set_num_threads(3)
        threadpool_limits(3)
        raise ZeroDivisionError

    before = torch.get_num_threads(), [lib["num_threads"] for lib in threadpool_info()]
    assert Callbacks([breaks]).tell("row", {"env_steps": 5}, 9)
    assert before == (torch.get_num_threads(), [lib["num_threads"] for lib in threadpool_info()])
    assert 3 not in before[1]


def test_torchs_own_number_of_threads_is_as_it_was_where_it_uses_another_library(monkeypatch):
    """With OpenMP, putting the libraries' numbers back would be enough."""
    monkeypatch.setattr("threadpoolctl.threadpool_limits", nullcontext)
    before = torch.get_num_threads()
    try:
        Callbacks([lambda event: torch.set_num_threads(before + 2)]).tell("row", {"env_steps": 5}, 9)
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("given", [[3], ["text"], [OnlyEvaluations and int], print, None, {print}])
def test_what_is_no_callback_is_refused(given):
    with pytest.raises(UsageError, match=r"^callback.*(allowed|must be a list)") as refused:
        Callbacks(given)
    assert "\n" not in str(refused.value)
