"""What training is spent on: its parts take its place, and nothing is counted twice."""

from rl_lab.runs.spending import Spending

CLOCK = {"training": 10.0, "evaluation": 4.0, "checkpoints": 1.0, "other": 0.5}


def test_the_parts_of_training_take_its_place_largest_first():
    spending = Spending()
    spending.add({"act_seconds": 1.0, "update_seconds": 2.0, "record_seconds": 0.25, "loss": 7.0})
    spending.add({"step_seconds": 1.0, "reset_seconds": 0.5, "store_seconds": 1.0, "update_seconds": 2.0})
    split = spending.split(CLOCK)
    assert split == {
        "learning": 5.0, "environment": 1.5, "acting": 1.0, "recording": 0.25, "evaluation": 4.0, "checkpoints": 1.0,
        "other": 2.75,
    }  # fmt: skip
    assert list(split)[:3] == ["learning", "environment", "acting"]
    assert sum(split.values()) == sum(CLOCK.values())


def test_a_learner_that_tells_no_parts_has_training_as_a_whole():
    spending = Spending()
    spending.add({"sweep": 3})
    assert spending.split(CLOCK) == CLOCK


def test_compiling_is_named():
    spending = Spending()
    spending.add({"compile_seconds": 8.0, "act_seconds": 1.0})
    split = spending.split(CLOCK)
    assert (split["compilation"], split["acting"], split["other"]) == (8.0, 1.0, 1.5)


def test_parts_that_are_rounded_up_leave_no_negative_rest():
    spending = Spending()
    spending.add({"update_seconds": 10.001})
    assert spending.split(CLOCK)["other"] == 0.5
