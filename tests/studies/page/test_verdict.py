"""The verdict: one sentence that is decided only where the test is, and says what so few seeds can't show."""

from __future__ import annotations

import json

import pytest

from page_studies import LAKE, describe, write_run
from rl_lab.evaluation.comparison.differences import permutation_test
from rl_lab.studies.page.contents import contents_of
from rl_lab.studies.page.render import render
from rl_lab.studies.page.statistics import is_paired
from rl_lab.studies.page.verdict import tuning_notes
from rl_lab.studies.results import load_study

LOW = [0.1, 0.2, 0.15, 0.05, 0.12, 0.3, 0.11, 0.17]


def study_of(folder, scores, env_ids=(LAKE,), **info):
    """Write a study of agents with one score for each seed (None: it did not finish), the same on all environments."""
    seeds = max(map(len, scores.values()))
    describe(folder, list(scores), seeds, env_ids)
    for env_id in env_ids:
        for agent, values in scores.items():
            for seed, score in enumerate(values):
                done = {} if score is None else {"env_steps": 300, "train_seconds": 1.0}
                write_run(folder, agent, seed, [0.0, 0.0 if score is None else score], env_id, **done)
    if info:
        file = folder / "study.json"
        file.write_text(json.dumps(json.loads(file.read_bytes()) | info))
    return load_study(folder)


def verdict_on(folder, scores, **more):
    return contents_of(study_of(folder, scores, **more)).environments[0].compared.verdict


def test_a_clear_difference_is_decided_with_its_interval_and_p_value(tmp_path):
    high = [score + 0.5 for score in LOW]
    found = verdict_on(tmp_path, {"ppo": LOW, "dqn": high})
    assert found.decided
    assert found.text == (
        "On FrozenLake-v1, dqn is better than ppo (mean return 0.650 against 0.150: a difference of 0.500, 95 % "
        "interval 0.500 to 0.500; p = 0.0078, 8 seeds)."
    )
    assert permutation_test(high, LOW) == 2 / 2**8
    assert found.notes == ()


def test_equal_agents_are_not_decided_and_the_note_says_what_could_not_be_seen(tmp_path):
    found = verdict_on(tmp_path, {"ppo": LOW, "dqn": LOW[::-1]})
    assert not found.decided
    assert "it is not decided whether ppo is better than dqn (mean return 0.150 against 0.150" in found.text
    (note,) = found.notes
    assert note.startswith("ppo against dqn: with 8 seeds a difference below ")
    assert "can't be seen" in note


def test_of_three_agents_the_best_is_told_from_those_it_beats_and_those_it_may_not(tmp_path):
    near = [score + (-0.1) ** (seed + 1) for seed, score in enumerate(s + 0.5 for s in LOW)]
    found = verdict_on(tmp_path, {"low": LOW, "best": [score + 0.5 for score in LOW], "near": near})
    best, other = ("best", "near") if sum(near) < sum(LOW) + 4 else ("near", "best")
    assert f"{best} is better than low (" in found.text
    assert f"; it is not decided whether {best} is better than {other} (" in found.text
    assert "corrected for the number of pairs" in found.text
    assert not found.decided
    assert [note.partition(":")[0] for note in found.notes] == [f"{best} against {other}"]


def test_of_all_that_the_best_may_not_beat_the_difference_is_told_with_its_interval(tmp_path):
    found = verdict_on(tmp_path, {"a": LOW, "b": LOW[::-1], "c": [*LOW[1:], LOW[0]]})
    assert found.text.startswith(
        "On FrozenLake-v1, it is not decided whether a is better than b (mean return 0.150 "
    )
    for other in "bc":
        told = found.text.partition(f"{other} (")[2]
        assert told.startswith("mean return 0.150 against 0.150: a difference of 0, 95 % interval -")
        assert "; p = 1, 8 seeds)" in told
    assert len(found.notes) == 2


def test_one_seed_decides_nothing(tmp_path):
    found = verdict_on(tmp_path, {"ppo": [0.1], "dqn": [0.9]})
    assert not found.decided
    assert found.notes == ("One seed says nothing about others: more seeds are needed for any verdict.",)


def test_an_agent_alone_is_compared_with_nothing(tmp_path):
    found = verdict_on(tmp_path, {"dqn": LOW})
    assert found.text.startswith("On FrozenLake-v1, dqn scores 0.13")
    assert found.text.endswith("over 8 seeds); nothing is compared with it.")
    assert not found.decided


def test_missing_runs_are_left_out_of_the_pairs_and_named(tmp_path):
    high = [score + 0.5 for score in LOW]
    found = verdict_on(tmp_path, {"ppo": [*LOW[:-1], None], "dqn": high})
    assert "7 seeds)" in found.text
    assert found.notes == ("Missing runs are left out; seeds with a score: ppo 7 of 8.",)


def test_who_is_ahead_is_read_off_the_seeds_that_both_have(tmp_path):
    high = [score + 0.1 for score in LOW[:7]]
    found = verdict_on(tmp_path, {"a": [*LOW[:7], 100.0], "b": [*high, None]})
    assert found.decided  # the mean of all of a's runs is higher
    assert found.text.startswith(
        "On FrozenLake-v1, b is better than a (mean return 0.247 against 0.147: a difference "
    )
    assert found.notes == ("Missing runs are left out; seeds with a score: b 7 of 8.",)


@pytest.mark.parametrize("worse", [0.5, 0.0])
def test_agents_that_beat_each_other_in_a_circle_are_not_ranked(tmp_path, worse):
    """Each pair shares seeds that the third lacks."""
    low, high, none = LOW, [score + 0.5 for score in LOW], [None] * 8
    last = [score + worse for score in LOW] if worse else LOW[::-1]
    found = verdict_on(tmp_path, {"a": high + none + low, "b": low + high + none, "c": none + low + last})
    assert not found.decided
    told = found.text.replace("On FrozenLake-v1, ", "; ")
    assert "; a is better than b (mean return 0.650 against 0.150" in told
    if worse:
        assert "; c is better than a (mean return 0.650 against 0.150" in told
        assert found.notes[0].startswith("No agent is the best: ")
        assert not any("can't be seen" in note for note in found.notes)
    else:
        assert "; it is not decided whether a is better than c (mean return 0.150 against 0.150" in told
        assert not any("No agent" in note for note in found.notes)


def test_agents_that_ignored_action_masks_are_named_beside_the_verdict(tmp_path):
    study_of(tmp_path, {"ppo": LOW, "sb3-ppo": LOW})
    for summary in tmp_path.glob("runs/*/sb3-ppo/*/summary.json"):
        summary.write_text(json.dumps(json.loads(summary.read_bytes()) | {"ignored_masks": True}))
    verdict = contents_of(load_study(tmp_path)).environments[0].compared.verdict
    assert verdict.notes[0] == "sb3-ppo ignored the action masks, and may have acted illegally."


def test_no_finished_run_at_all_is_said(tmp_path):
    assert (
        verdict_on(tmp_path, {"dqn": [None]}).text
        == "On FrozenLake-v1, no run has finished with an evaluation."
    )


def test_environments_are_judged_together_on_one_scale(tmp_path):
    high = [score + 0.5 for score in LOW[:4]]
    study = study_of(tmp_path, {"ppo": LOW[:4], "dqn": high}, env_ids=("a/A-v0", "b/B-v0"))
    contents = contents_of(study)
    assert contents.overall.verdict.decided
    assert contents.overall.verdict.text.startswith(
        "On both environments, dqn is better than ppo (mean normalised return "
    )
    assert contents.scales["a/A-v0"].source == "from the lowest to the highest score of this study"
    (pair,) = contents.overall.pairs
    assert pair.means[0] - pair.means[1] == pytest.approx(0.5 / (max(high) - min(LOW[:4])))
    assert [chart.kind for chart in contents.overall.charts] == [
        "efficiency",
        "aggregates",
        "profile",
        "improvement",
    ]


def test_what_a_sequential_test_decided_takes_the_place_of_the_test_of_pairs(tmp_path):
    study = study_of(tmp_path, {"ppo": LOW, "dqn": LOW[::-1]})
    verdict = {"env_id": LAKE, "x": "dqn", "y": "ppo", "verdict": "greater", "seeds": 15}
    verdict |= {"difference": 0.25, "boundary": 0.125}
    decision = {"alpha": 0.05, "looks": 3, "max_looks": 8, "max_seeds": 40, "group_size": 5, "runs": 30}
    decision |= {"max_runs": 80, "family": 6, "questions": [verdict]}
    (tmp_path / "decision.json").write_text(json.dumps(decision))
    contents = contents_of(study)
    found = contents.environments[0].compared.verdict
    assert (found.text, found.decided) == (
        "On FrozenLake-v1, dqn is better than ppo (mean returns differ by 0.250, the boundary is 0.125), decided after"
        " 15 seeds; the probability of calling any two equal agents different is at most 0.05 over all 8 looks "
        "and 6 questions together.",
        True,
    )
    assert contents.decision.rows == ((LAKE, "dqn", "ppo", "dqn is better", "15", "0.250", "0.125"),)
    assert contents.decision.lines[:2] == (
        "Seeds were added in groups of 5 until it was decided, 40 at most; 3 of at most 8 looks; 30 of at most 80 "
        "runs.",
        "The probability of calling any two equal agents different is at most 0.05 over all 8 looks and 6 questions "
        "together.",
    )
    html = render(contents)
    assert "looks after each group of seeds exceeds its boundary" in html
    assert "p, if the number of seeds had been fixed" in html


def test_seeds_that_were_added_until_it_was_decided_decide_nothing_on_all_environments_together(tmp_path):
    """The p-value there would be one of a number of seeds that the scores themselves chose."""
    high = [score + 0.5 for score in LOW]
    study = study_of(tmp_path, {"ppo": LOW, "dqn": high}, env_ids=("a/A-v0", "b/B-v0"))
    assert contents_of(study).overall.verdict.decided
    (tmp_path / "decision.json").write_text(json.dumps({"alpha": 0.05, "questions": []}))
    found = contents_of(study).overall.verdict
    assert not found.decided
    assert found.text == (
        "On both environments together, the mean normalised returns are ppo 0.133 and dqn 0.800; no test of them "
        "holds, since seeds were added until the questions on each environment were decided."
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("no difference found", "no difference was found between dqn and ppo after 40 seeds"),
     ("undecided", "it is not decided between dqn and ppo after 40 seeds"),
     ("less", "ppo is better than dqn, decided after 40 seeds")],
)  # fmt: skip
def test_every_outcome_of_a_sequential_test_has_its_words(tmp_path, outcome, words):
    study = study_of(tmp_path, {"ppo": LOW[:2], "dqn": LOW[:2]})
    verdict = {"env_id": LAKE, "x": "dqn", "y": "ppo", "verdict": outcome, "seeds": 40}
    (tmp_path / "decision.json").write_text(json.dumps({"questions": [verdict]}))
    found = contents_of(study).environments[0].compared.verdict
    assert (found.text, found.decided) == (f"On FrozenLake-v1, {words}.", outcome == "less")


def test_seeds_that_a_preset_was_chosen_on_are_named(tmp_path):
    chosen = [{"agent": "dqn", "preset": "tuned:Lake", "seeds": [1, 100]},
              {"agent": "ppo", "preset": "p", "seeds": [100]}]  # fmt: skip
    study = study_of(tmp_path, {"ppo": LOW[:2], "dqn": LOW[:2]}, chosen_on=chosen)
    (note,) = tuning_notes(study)
    assert note.startswith("preset tuned:Lake of dqn was chosen on seeds 1, which this comparison uses again")
    assert tuning_notes(load_study(describe(tmp_path / "older", ["dqn"]))) == []


@pytest.mark.parametrize(
    ("seeds", "tasks", "comparisons", "paired"),
    [(5, 1, 1, False), (6, 1, 1, True), (8, 1, 3, True), (6, 1, 3, False), (3, 2, 1, True), (2, 1, 1, True)],
)
def test_runs_are_pairs_wherever_pairs_can_decide(seeds, tasks, comparisons, paired):
    """2 ** -5 * 2 is above 0.05; two seeds can decide neither way."""
    assert is_paired(seeds, tasks, comparisons) is paired
