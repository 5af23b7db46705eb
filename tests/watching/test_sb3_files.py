"""SB3's own files: their policies act as SB3's `predict` does, memory and statistics included; no code runs unasked."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from base64 import b64encode
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rl_lab.types import UsageError
from rl_lab.watching.sources import Environment, ModelFile, watched

MODELS = {
    "dqn": (DQN, "MlpPolicy", "CartPole-v1", {"exploration_initial_eps": 1.0}),
    "ppo": (PPO, "MlpPolicy", "CartPole-v1", {}),
    "a2c": (A2C, "MlpPolicy", "CartPole-v1", {}),
    "sac": (SAC, "MlpPolicy", "Pendulum-v1", {}),
    "qrdqn": (QRDQN, "MlpPolicy", "CartPole-v1", {}),
    "recurrent-ppo": (RecurrentPPO, "MlpLstmPolicy", "CartPole-v1", {}),
}
TRUSTED = ModelFile(trust_pickles=True)


def small() -> dict:
    """Arguments of a small model; SB3 changes them."""
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "seed": 3}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Makes models, each with its file, once."""
    made = {}

    def model(name):
        if name not in made:
            kind, policy, env_id, fields = MODELS[name]
            own = kind(policy, env_id, **small(), **fields)
            path = tmp_path_factory.mktemp(name) / "model.zip"
            own.save(path)
            made[name] = own, path
        return made[name]

    return model


def observations(env_id: str, count: int = 50) -> np.ndarray:
    """Observations of an environment that is played at random."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    obs, seen = env.reset(seed=0)[0], []
    while len(seen) < count:
        seen.append(obs)
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            obs, _ = env.reset()
    return np.stack(seen)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_acts_as_sb3_predicts_and_tells_its_algorithm(saved, name):
    model, path = saved(name)
    env_id = MODELS[name][2]
    found = watched(path, environment=Environment(env_id), model_file=TRUSTED)
    assert found.label == f"SB3's {name} on {env_id}"
    assert found.note == "from model.zip, whose pickles were run"
    policy, state, carry = found.policy, found.policy.initial_state(1), None
    for t, obs in enumerate(observations(env_id)):
        first = np.array([t % 20 == 0])  # memory is lost there
        theirs, carry = model.predict(obs[None], carry, episode_start=first, deterministic=True)
        decision = policy.act(obs[None], state, first)
        state = decision.state
        assert np.array_equal(decision.action, theirs)


def test_the_figures_of_dqn_are_its_q_values(saved):
    model, path = saved("dqn")
    obs = observations("CartPole-v1", 5)
    seen = watched(path, environment=Environment("CartPole-v1"), model_file=TRUSTED).policy.inspect(
        obs, (), np.ones(5, bool)
    )
    with torch.no_grad():
        assert np.array_equal(seen["q_values"], model.q_net(torch.as_tensor(obs)).numpy())


def test_statistics_normalise_what_the_policy_sees(tmp_path):
    envs = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    model = PPO("MlpPolicy", envs, n_steps=32, batch_size=32, n_epochs=1, **small()).learn(64)
    model.save(tmp_path / "model.zip")
    envs.save(tmp_path / "statistics.pkl")
    obs = observations("CartPole-v1")
    theirs = model.predict(envs.normalize_obs(obs), deterministic=True)[0]
    raw = model.predict(obs, deterministic=True)[0]
    assert not np.array_equal(theirs, raw)

    def acts(file):
        found = watched(tmp_path / "model.zip", environment=Environment("CartPole-v1"), model_file=file)
        return found.policy.act(obs, (), np.ones(50, bool)).action, found.note

    action, note = acts(ModelFile(statistics=tmp_path / "statistics.pkl", trust_pickles=True))
    assert np.array_equal(action, theirs)
    assert note == "from model.zip, whose pickles were run, as were those of statistics.pkl"
    assert np.array_equal(acts(TRUSTED)[0], raw)


def test_neither_generators_nor_statistics_change_by_loading(saved):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  what SB3 would seed
    watched(saved("ppo")[1], environment=Environment("CartPole-v1"), model_file=TRUSTED)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


class Hostile:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


def test_no_pickle_runs_unless_it_is_trusted(saved, tmp_path):
    mark, hostile = tmp_path / "mark", tmp_path / "hostile.zip"
    with zipfile.ZipFile(saved("dqn")[1]) as source, zipfile.ZipFile(hostile, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "data":
                fields = json.loads(data)
                fields["policy_kwargs"] = {
                    ":type:": "x", ":serialized:": b64encode(pickle.dumps(Hostile(mark))).decode()
                }  # fmt: skip
                data = json.dumps(fields).encode()
            target.writestr(name, data)
    with pytest.raises(UsageError, match=r"is not read: its pickles run whatever code .* --trust-pickles"):
        watched(hostile, environment=Environment("CartPole-v1"))
    with pytest.raises(UsageError, match="is not read"):
        watched(hostile, environment=Environment("CartPole-v1"), model_file=ModelFile("dqn"))
    assert not mark.exists()
    with pytest.raises(UsageError, match="can't be read as dqn"):  # its arguments are no dictionary
        watched(hostile, environment=Environment("CartPole-v1"), model_file=TRUSTED)
    assert mark.exists()  # which shows that the file is hostile indeed


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_model_is_refused_in_a_line(tmp_path, content):
    path = tmp_path / "model.zip"
    if content is None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("other", "x")
        content = buffer.getvalue()
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"can't be read: .*allowed: a .zip that SB3 saved") as raised:
        watched(path, environment=Environment("CartPole-v1"), model_file=TRUSTED)
    assert "\n" not in str(raised.value)


def test_refusals_name_what_does_not_fit(saved, tmp_path):
    path = saved("dqn")[1]
    with pytest.raises(UsageError, match=r"takes observations Box.*Acrobot-v1 has Box"):
        watched(path, environment=Environment("Acrobot-v1"), model_file=TRUSTED)
    with pytest.raises(UsageError, match=r"unknown algorithm of SB3's 'dqm' \(close: dqn"):
        watched(path, environment=Environment("CartPole-v1"), model_file=ModelFile("dqm", trust_pickles=True))
    with pytest.raises(UsageError, match=r"can't be read as sac: .*--algo"):
        watched(path, environment=Environment("CartPole-v1"), model_file=ModelFile("sac", trust_pickles=True))
    with pytest.raises(UsageError, match="--env-id"):
        watched(path, model_file=TRUSTED)
    with pytest.raises(UsageError, match="is not there"):
        watched(tmp_path / "none.zip", environment=Environment("CartPole-v1"), model_file=TRUSTED)
    statistics = ModelFile(statistics=path, trust_pickles=True)
    with pytest.raises(UsageError, match=r"statistics .* can't be read"):
        watched(path, environment=Environment("CartPole-v1"), model_file=statistics)
