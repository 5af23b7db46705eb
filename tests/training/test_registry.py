"""Learners by name: their fields without building them, and factories of every form that was ever allowed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from rl_lab.training import registry
from rl_lab.training.learner import built_from
from rl_lab.training.registry import (
    agent_names,
    config_of,
    make_config,
    make_learner,
    preset_fields,
    presets_of,
)
from rl_lab.types import UsageError


@dataclass(frozen=True)
class Config:
    """Fields of a learner."""

    rate: float = 0.5
    """Step size."""
    hidden: tuple[int, ...] = ()
    """Widths."""


class Taught:
    """A learner that only tells its fields."""

    def __init__(self, config):
        self.config, self.Config = config, type(config)


@pytest.fixture
def install(monkeypatch):
    """Let the registry find factories by name."""
    factories = {}
    monkeypatch.setattr(registry, "_factory", factories.__getitem__)
    return factories


class TestConfigOf:
    @pytest.mark.parametrize("name", agent_names())
    def test_is_that_of_the_learner(self, name):
        learner = make_learner(name)
        assert config_of(name) is learner.Config is type(learner.config)
        assert learner.config == config_of(name)()

    def test_a_decorated_factory_is_not_called(self, install):
        @built_from(Config)
        def build(config):
            raise AssertionError("it was built")

        install["decorated"] = build
        assert config_of("decorated") is Config

    def test_a_class_may_be_its_own_factory(self, install):
        class Own(Taught):
            Config = Config

            def __init__(self, **fields):
                super().__init__(Config(**fields))

        install["own"] = Own
        assert config_of("own") is Config
        assert make_learner("own", rate=0.25).config.rate == 0.25

    def test_a_plain_factory_is_called_once(self, install):
        calls = []

        def build(**fields):
            calls.append(fields)
            return Taught(Config(**fields))

        install["plain"] = build
        assert config_of("plain") is config_of("plain") is Config
        assert calls == [{}]


class TestBuiltFrom:
    def test_passes_fields_as_a_config_and_keeps_name_and_text(self):
        @built_from(Config)
        def build(config: Config) -> Taught:
            """Learn something."""
            return Taught(config)

        assert build(rate=0.25).config == Config(0.25)
        assert (build.__name__, build.__doc__, build.Config) == ("build", "Learn something.", Config)


class TestMakeLearner:
    def test_turns_lists_into_tuples(self, install):
        install["it"] = built_from(Config)(Taught)
        assert make_learner("it", hidden=[3, 4]).config.hidden == (3, 4)

    def test_a_field_may_have_any_name(self):
        for make in (make_config, make_learner):
            with pytest.raises(UsageError, match="agent 'random'"):
                make("random", **{"name": 3})

    def test_an_unknown_field_is_an_error_of_usage(self, install):
        install["it"] = built_from(Config)(Taught)
        with pytest.raises(UsageError, match=r"agent 'it': .*'depth'"):
            make_learner("it", depth=3)

    def test_a_preset_in_place_of_a_name_is_told(self):
        with pytest.raises(UsageError, match=r"unknown agent 'rainbow' \(.*; a preset of dqn\)$"):
            config_of("rainbow")

    def test_an_unknown_name_is_refused_with_what_is_close(self):
        for ask in (make_learner, config_of, presets_of):
            with pytest.raises(UsageError, match=r"unknown agent 'dqm' .close: dqn"):
                ask("dqm")


class TestPresets:
    def test_have_tuples_and_known_fields(self):
        assert preset_fields("dqn", "zoo:CartPole-v1")["hidden"] == (256, 256)

    @pytest.mark.parametrize("text", ["", "mine:", "other: {fast: {rate: 1}}"])
    def test_a_file_may_name_none(self, tmp_path, monkeypatch, text):
        package = tmp_path / "holds_presets"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "presets.yaml").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "holds_presets", raising=False)
        entry = EntryPoint("mine", "holds_presets.agent:build", registry.GROUP)
        monkeypatch.setattr(registry, "agent_entry", lambda name: entry)
        assert presets_of("mine") == {}

    def test_an_unknown_one_is_refused_with_those_there_are(self):
        with pytest.raises(
            UsageError, match=r"'fast' .allowed: nature, dopamine, zoo:atari, zoo:CartPole-v1"
        ):
            preset_fields("dqn", "fast")
        with pytest.raises(UsageError, match=r"'fast' .allowed: none"):
            preset_fields("random", "fast")
