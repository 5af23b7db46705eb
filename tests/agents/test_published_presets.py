"""Presets of published agents hold what the papers and their authors' files say, in tables of the sources' own."""

from __future__ import annotations

import inspect

from whole_presets import whole

from rl_lab.environments.protocols import PROTOCOLS
from rl_lab.training.registry import preset_fields
from rl_lab.updates.optimisers import CentredRMSprop

# Nature ---------------------------------------------------------------------------------------------
# Mnih et al. (2015), "Human-level control through deep reinforcement learning", extended data table 1.
NATURE_TABLE = {
    "minibatch size": 32, "replay memory size": 1_000_000, "agent history length": 4,
    "target network update frequency": 10_000, "discount factor": 0.99, "action repeat": 4, "update frequency": 4,
    "learning rate": 0.00025, "gradient momentum": 0.95, "squared gradient momentum": 0.95,
    "min squared gradient": 0.01, "initial exploration": 1.0, "final exploration": 0.1,
    "final exploration frame": 1_000_000, "replay start size": 50_000, "no-op max": 30,
}  # fmt: skip
# Of training, as the agent sees them: "around 38 days" at 60 a second are 4 times as many.
FRAMES = 50_000_000
WHOLE_GAME = 27_000  # decisions of four frames: half an hour of play, after which emulators end a game, too


def test_nature_is_the_papers_table():
    fields = preset_fields("dqn", "nature")
    table = dict(NATURE_TABLE)
    protocol = PROTOCOLS[fields["preprocess"]]
    assert protocol.repeat_action_probability == 0.0  # sticky actions came later: Machado et al. (2018)
    assert not protocol.full_action_space
    assert protocol.maxpool  # "the maximum value for each pixel colour value over" two frames
    rmsprop = inspect.signature(CentredRMSprop.__init__).parameters
    assert protocol.frameskip == table.pop("action repeat")
    assert protocol.noop_max == table.pop("no-op max")
    assert table.pop("agent history length") == 4  # the stack; test_dqn_config.py looks at the problem's
    for momentum in ("gradient momentum", "squared gradient momentum"):
        assert rmsprop["decay"].default == table.pop(momentum)
    # the authors sum gradients over the batch, and the lab averages them
    assert rmsprop["floor"].default == table.pop("min squared gradient") / table["minibatch size"] ** 2
    assert fields == {
        "total_steps": FRAMES,
        "batch_size": table.pop("minibatch size"),
        "replay_capacity": table.pop("replay memory size"),
        # "measured in the number of parameter updates"
        "target_period_updates": table.pop("target network update frequency"),
        "gamma": table.pop("discount factor"),
        "train_period_env_steps": table.pop("update frequency"),
        "gradient_steps_per_update": 1,
        "learning_rate": table.pop("learning rate"),
        "optimiser": "rmsprop",
        "epsilon_initial": table.pop("initial exploration"),
        "epsilon_final": table.pop("final exploration"),
        "epsilon_fraction": table.pop("final exploration frame") / FRAMES,
        "epsilon_waits": True,  # as in the authors' code, which counts from where learning starts
        "learning_starts_env_steps": table.pop("replay start size"),
        "loss": "huber",  # "we also clip the error term to be between -1 and 1"
        "max_grad_norm": None,
        "reward_clip": 1.0,  # "we clipped all positive rewards at 1 and all negative rewards at -1"
        "preprocess": "nature",  # whose own fields are below
        "eval_max_steps": WHOLE_GAME,
        "encoder": "cnn",
        "hidden": (512,),  # "the final hidden layer is fully-connected and consists of 512 rectifier units"
        "life_loss_terminates": True,  # as in the authors' code
    }
    assert table == {}
    got = whole("dqn", fields)
    assert (got["double"], got["dueling"], got["n_steps"], got["target_tau"]) == (False, False, 1, 1.0)


# Rainbow ------------------------------------------------------------------------------------------------
# Hessel et al. (2018), "Rainbow: Combining Improvements in Deep Reinforcement Learning", table 1; in frames, four of
# which are a step.
RAINBOW_TABLE = {
    "min history to start learning": 80_000, "adam learning rate": 0.0000625, "adam epsilon": 1.5e-4,
    "exploration": 0.0, "noisy nets": 0.5, "target network period": 32_000, "prioritisation exponent": 0.5,
    "importance sampling": 0.4, "multi-step returns": 3, "distributional atoms": 51,
    "distributional min/max values": (-10, 10),
}  # fmt: skip


def test_rainbow_is_the_papers_table():
    fields, table, parts = (
        preset_fields("dqn", "rainbow:atari"),
        RAINBOW_TABLE,
        preset_fields("dqn", "rainbow"),
    )
    assert parts == {
        "distribution": "categorical", "double": True, "dueling": True, "prioritised": True, "noisy": True,
        "atoms": table["distributional atoms"], "priority_alpha": table["prioritisation exponent"],
        "priority_beta": table["importance sampling"], "n_steps": table["multi-step returns"],
        "noisy_sigma": table["noisy nets"], "epsilon_initial": table["exploration"],
        "epsilon_final": table["exploration"],
    }  # fmt: skip
    nature = preset_fields("dqn", "nature")  # "the same preprocessing, network and update period as DQN"
    same = (
        "total_steps", "preprocess", "eval_max_steps", "life_loss_terminates", "encoder", "hidden", "batch_size",
        "replay_capacity", "gamma", "reward_clip", "max_grad_norm", "train_period_env_steps",
        "gradient_steps_per_update",
    )  # fmt: skip
    assert fields == parts | {name: nature[name] for name in same} | {
        "learning_rate": table["adam learning rate"],
        "adam_epsilon": table["adam epsilon"],
        "learning_starts_env_steps": table["min history to start learning"] // 4,
        "target_period_env_steps": table["target network period"] // 4,
        "v_min": table["distributional min/max values"][0],
        "v_max": table["distributional min/max values"][1],
    }


# MinAtar --------------------------------------------------------------------------------------------
# purejaxql/config/alg/pqn_minatar.yaml of Gallici et al. (2025) at 0cd95edadc03fb85a0825ada20ea8803913c3247
PQN_MINATAR = {
    "TOTAL_TIMESTEPS": 1e7, "NUM_ENVS": 128, "NUM_STEPS": 32, "EPS_START": 1.0, "EPS_FINISH": 0.05, "EPS_DECAY": 0.1,
    "NUM_MINIBATCHES": 32, "NUM_EPOCHS": 2, "NORM_TYPE": "layer_norm", "LR": 0.0005, "MAX_GRAD_NORM": 10,
    "LR_LINEAR_DECAY": True, "GAMMA": 0.99, "LAMBDA": 0.65,
}  # fmt: skip


def test_minatar_is_the_authors_file_and_network():
    said, fields = dict(PQN_MINATAR), preset_fields("pqn", "minatar")
    rollout = said["NUM_ENVS"] * said["NUM_STEPS"]
    assert said.pop("NORM_TYPE") == "layer_norm"
    assert said.pop("LR_LINEAR_DECAY")
    assert (
        fields
        == {
            "total_steps": said.pop("TOTAL_TIMESTEPS"),
            "num_envs": said.pop("NUM_ENVS"),
            "n_steps": said.pop("NUM_STEPS"),
            "epsilon_initial": said.pop("EPS_START"),
            "epsilon_final": said.pop("EPS_FINISH"),
            "epsilon_fraction": said.pop("EPS_DECAY"),
            "batch_size": rollout // said.pop("NUM_MINIBATCHES"),
            "n_epochs": said.pop("NUM_EPOCHS"),
            "learning_rate": said.pop("LR"),
            "learning_rate_final": 0.0,
            "max_grad_norm": said.pop("MAX_GRAD_NORM"),
            "gamma": said.pop("GAMMA"),
            "q_lambda": said.pop("LAMBDA"),
            "encoder": "minatar",  # pqn_minatar.py: one convolution of 16 kernels 3x3 and 128 units, both normalised
            "channels": "last",
            "image_layer_norm": True,
            "hidden": (128,),
            "initialisation": "kaiming",  # he_normal
        }
    )
    assert said == {}
    got = whole("pqn", fields)
    assert (got["layer_norm"], got["optimiser"], got["activation"]) == (True, "radam", "relu")
    assert not got["learning_rate_final"]
    assert got["learning_rate_decay"] == "linear"
