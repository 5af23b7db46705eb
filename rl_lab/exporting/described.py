"""policy.json and play.py: what an exported policy takes and gives, and a script that runs it without the lab."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.exporting.acting import Trained
from rl_lab.exporting.signature import described_actions
from rl_lab.problem import Problem
from rl_lab.runs.scrubbing import scrub

HERE = Path(__file__).parent


def template(name: str, *, escapes: bool = False) -> Any:
    """Return a template of this package."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=escapes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def described(trained: Trained) -> dict[str, Any]:
    """Return what policy.json holds."""
    description, problem = trained.description, trained.problem
    signature, module = trained.signature, trained.module
    carry = [{"name": f"next_{part.name}", **_array(part.dtype, part.shape)} for part in signature.carry]
    return {
        "format": 1,
        "agent": description.agent,
        "env_id": description.config.env_id,
        "env_kwargs": scrub(dict(description.config.env_kwargs)),
        "config_sha256": description.config_sha256,
        "weights_sha256": trained.weights_sha256,
        "inputs": [item.as_dict() for item in signature.inputs],
        "outputs": [
            {"name": "action", "shape": ["N", "..."]},
            {"name": "scores", **_array("float", (module.choice.num_scores,))},
            *carry,
        ],
        "action_space": described_actions(problem.spec.action_space),
        "notes": _notes(trained),
    }


def _array(dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": ["N", *shape]}


def _notes(trained: Trained) -> list[str]:
    """Return what whoever runs the file should know."""
    notes = [
        "observations go in as the environment gives them: normalisation and scaling of images are inside"
    ]
    if trained.signature.carry:
        notes.append(
            "the carry counts as zero where is_first: its reset is inside; next_carry is the next carry"
        )
    if trained.signature.has_mask:
        notes.append("mask tells the legal actions; all ones if all are")
    return notes


def write_description_text(trained: Trained) -> bytes:
    """Return policy.json."""
    return (json.dumps(described(trained), indent=1, allow_nan=False) + "\n").encode()


def play_script(trained: Trained, file: str) -> bytes:
    """Return play.py for a file, .onnx or .pt; it plays the first evaluation episode unless it is given a seed."""
    package = "onnxruntime" if file.endswith(".onnx") else "torch"
    text = template("play.py.jinja").render(
        package=package,
        file=file,
        has_mask=trained.signature.has_mask,
        making=_making(trained),
        seed=evaluation_seed(trained.description.config.seed, 0),
        most_steps=trained.description.config.eval_max_steps,
    )
    return text.encode()


def _making(trained: Trained) -> list[str]:
    """Return the lines of Python that make the environment, without the lab where it is nobody else's."""
    config = trained.description.config
    kwargs = scrub(dict(config.env_kwargs))
    if _is_made_by_the_lab(trained):
        arguments = [repr(config.env_id), repr(kwargs)]
        arguments += [f"wrappers={list(config.wrappers)!r}"] if config.wrappers else []
        arguments += [f"preprocess={config.preprocess!r}"]
        return [
            "from rl_lab.environments.make import make_env  # only for this environment, which the lab makes",
            "",
            f"env = make_env({', '.join(arguments)})",
        ]
    arguments = [repr(config.env_id), *(f"{name}={value!r}" for name, value in kwargs.items())]
    module = config.env_id.rpartition(":")[0]
    finding = [f"sys.path.append(str(Path.cwd()))  # {module} may lie there"] if module else []
    return ["import gymnasium", "", *finding, f"env = gymnasium.make({', '.join(arguments)})"]


def _is_made_by_the_lab(trained: Trained) -> bool:
    """Return whether the lab registers the environment's id, or puts something around it."""
    config = trained.description.config
    namespace, slash, _ = config.env_id.partition("/")
    is_registered = bool(slash and entry_points(group="rl_lab.envs", name=namespace))
    is_wrapped = bool(config.wrappers) or config.preprocess != "none" or trained.problem.spec.has_lives
    return is_registered or is_wrapped


def problem_text(problem: Problem) -> dict[str, str]:
    """Return the spaces in words."""
    return {"observations": str(problem.spec.observation_space), "actions": str(problem.spec.action_space)}
