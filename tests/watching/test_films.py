"""Films and sheets decoded again: frames, sizes, contents, the last frame; what an exception leaves; progress."""

from __future__ import annotations

import gymnasium
import imageio.v3 as iio
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from rl_lab.types import EnvironmentFault, UsageError
from rl_lab.watching.films import (
    CELL_PIXELS,
    GIF_PIXELS,
    PAUSE_SECONDS,
    Outputs,
    film_progress,
    played,
    show,
    sized,
)
from rl_lab.watching.sheets import BACKGROUND, CELLS, COLUMNS, GAP_PIXELS, SheetWriter, require_sheet, spread
from rl_lab.watching.sources import Environment, watched
from runs import learn

STEPS = 30


class Signals(gymnasium.Env):
    """Shows its step as a grey level, 8 a step, over 211 x 331 pixels; breaks down at step `breaks`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space, action_space = spaces.Box(0, 99, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, render_mode=None, breaks=None):
        self.render_mode, self.breaks = render_mode, breaks

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_ = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.step_ += 1
        if self.step_ == self.breaks:
            raise RuntimeError("the motor is hot")
        return np.full(1, self.step_, np.float32), 1.0, self.step_ == STEPS, False, {}

    def render(self):
        return np.full((211, 331, 3), 8 * self.step_, np.uint8)


gymnasium.register("lab-test/Signals-v0", Signals, disable_env_checker=True)


def signals(**kwargs):
    return watched("random", environment=Environment("lab-test/Signals-v0", kwargs))


def decoded(path):
    return iio.imread(path, index=None)


def levels(frames):
    """The step that each frame shows."""
    return [round(float(np.median(frame)) / 8) for frame in frames]


class TestFiles:
    def test_films_hold_every_frame_from_the_first_to_the_last(self, tmp_path):
        source = signals()
        mp4, gif = tmp_path / "a.mp4", tmp_path / "a.gif"
        assert show(source, played(source, episodes=1), Outputs([mp4, gif])) == STEPS + 1
        film = decoded(mp4)
        assert film.shape == (STEPS + 1, 212, 332, 3)  # even sides
        assert levels(film) == list(range(STEPS + 1))
        assert iio.immeta(mp4, plugin="FFMPEG")["fps"] == 10
        small = decoded(gif)
        assert small.shape == (STEPS + 1, 204, GIF_PIXELS, 3)
        assert levels(small) == list(range(STEPS + 1))
        assert gif.stat().st_size < 200_000

    def test_several_episodes_follow_one_another(self, tmp_path):
        source = signals()
        assert show(source, played(source, episodes=2), Outputs([tmp_path / "a.mp4"])) == 2 * (STEPS + 1)
        assert levels(decoded(tmp_path / "a.mp4")) == 2 * list(range(STEPS + 1))

    @pytest.mark.parametrize("overlay", [False, True])
    def test_an_exception_in_mid_episode_leaves_playable_files(self, tmp_path, overlay):
        source = signals(breaks=13)
        files = [tmp_path / "a.mp4", tmp_path / "a.gif"]
        outputs = Outputs(files, tmp_path / "a.png", overlay=overlay)
        with pytest.raises(EnvironmentFault, match="the motor is hot"):
            show(source, played(source, episodes=1, inspecting=overlay), outputs)
        for file in files:
            frames = decoded(file)
            assert len(frames) == 13
            assert levels([frame[:190] for frame in frames]) == list(range(13))
        assert Image.open(tmp_path / "a.png").size[0] > CELL_PIXELS

    def test_an_overlay_adds_a_panel_and_leaves_the_picture(self, tmp_path):
        source = signals()
        plain, drawn = tmp_path / "a.mp4", tmp_path / "b.mp4"
        show(source, played(source, episodes=1), Outputs([plain]))
        show(source, played(source, episodes=1, inspecting=True), Outputs([drawn], overlay=True))
        without, with_panel = decoded(plain), decoded(drawn)
        assert len(without) == len(with_panel)
        assert with_panel.shape[1] > without.shape[1]
        assert np.abs(with_panel[:, :208].astype(int) - without[:, :208]).max() < 12
        panels = with_panel[:, 212:]
        assert len({panel.tobytes() for panel in panels}) == STEPS + 1  # each step says its own number

    def test_the_environment_s_speed_is_the_film_s(self, tmp_path):
        source = watched("random", environment=Environment("CartPole-v1"))
        show(source, played(source, episodes=1, seed=2), Outputs([tmp_path / "a.mp4"], overlay=True))
        assert (
            iio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")["fps"]
            == source.make().metadata["render_fps"]
            == 50
        )


class TestSized:
    @pytest.mark.parametrize(
        ("shape", "most", "expected"),
        [
            ((400, 600), None, (400, 600)), ((400, 600), 320, (213, 320)), ((10, 20), None, (100, 200)),
            ((10, 20), 320, (100, 200)), ((600, 4), 200, (200, 1)), ((320, 320), 320, (320, 320)),
        ],
    )  # fmt: skip
    def test_is_within_its_limits(self, shape, most, expected):
        assert sized(np.full((*shape, 3), 7, np.uint8), most).shape == (*expected, 3)
        assert (sized(np.full((*shape, 3), 7, np.uint8), most) == 7).all()


class TestSheet:
    def cells(self, path, height, width):
        """The grey levels of a sheet's cells, in their order."""
        sheet = np.asarray(Image.open(path))
        rows, columns = (
            (sheet.shape[0] - GAP_PIXELS) // (height + GAP_PIXELS),
            (sheet.shape[1] - GAP_PIXELS) // (width + GAP_PIXELS),
        )
        tops = [GAP_PIXELS + row * (height + GAP_PIXELS) for row in range(rows)]
        lefts = [GAP_PIXELS + column * (width + GAP_PIXELS) for column in range(columns)]
        assert (sheet[:GAP_PIXELS] == BACKGROUND).all()
        corners = [sheet[top + 5, left + 5] for top in tops for left in lefts]
        return [int(corner[0]) for corner in corners if not np.array_equal(corner, BACKGROUND)]

    def write(self, path, count):
        with SheetWriter(path) as sheet:
            for step in range(count):
                assert sheet.add(np.full((20, 30, 3), step % 250, np.uint8))

    @pytest.mark.parametrize("count", [1, 2, 7, CELLS, CELLS + 1, 100, 240])
    def test_shows_the_first_and_the_last_and_is_spread_evenly(self, tmp_path, count):
        self.write(tmp_path / "a.png", count)
        shown = self.cells(tmp_path / "a.png", 20, 30)
        assert len(shown) == min(count, CELLS)
        assert (shown[0], shown[-1]) == (0, count - 1)
        gaps = np.diff(shown)
        assert (gaps > 0).all()
        assert count <= CELLS or gaps.max() - gaps.min() <= max(2, count / CELLS)

    def test_keeps_few_pictures_of_many(self, tmp_path):
        with SheetWriter(tmp_path / "a.png") as sheet:
            for _ in range(10_000):
                sheet.add(np.zeros((2, 2, 3), np.uint8))
                assert len(sheet._kept) <= 4 * CELLS

    def test_without_pictures_there_is_none(self, tmp_path):
        with SheetWriter(tmp_path / "a.png"):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_another_suffix_is_refused(self, tmp_path):
        assert require_sheet(tmp_path / "a.PNG") == tmp_path / "a.PNG"
        with pytest.raises(UsageError, match=r"--sheet .*a\.jpg.* must end in \.png"):
            require_sheet(tmp_path / "a.jpg", "--sheet")

    def test_of_an_episode_holds_its_last_frame(self, tmp_path):
        source = signals()
        show(source, played(source, episodes=1), Outputs(sheet=tmp_path / "a.png"))
        height, width = sized(np.zeros((211, 331, 3), np.uint8), CELL_PIXELS).shape[:2]
        assert self.cells(tmp_path / "a.png", height, width)[-1] == 8 * STEPS

    def test_spread(self):
        assert spread(3, 5) == [0, 1, 2]
        assert spread(9, 3) == [0, 4, 8]
        assert spread(1, 3) == [0]
        assert COLUMNS == 6


class Walk(gymnasium.Env):
    """Six cells; the reward is at the right end, where the episode ends, as it does after 12 steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space, action_space = spaces.Discrete(6), spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.left = 0, 12
        return self.at, {}

    def step(self, action):
        self.at, self.left = max(0, self.at + (1 if action else -1)), self.left - 1
        return self.at, float(self.at == 5), self.at == 5, self.left == 0, {}

    def render(self):
        return np.full((20, 20, 3), 40 * self.at, np.uint8)


gymnasium.register("lab-test/Walk-v0", Walk, disable_env_checker=True)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run that keeps five checkpoints: the first know nothing of the reward."""
    folder = tmp_path_factory.mktemp("run")
    fields = {"total_steps": 1000, "checkpoint_every_steps": 200, "keep_checkpoints": 9, "keep_best": 0}
    learn(folder, "q-learning", "lab-test/Walk-v0", **fields)
    return folder


class TestProgress:
    @pytest.mark.parametrize("overlay", [False, True])
    def test_shows_the_same_episode_of_each_checkpoint(self, run_dir, tmp_path, overlay):
        path = tmp_path / "a.mp4"
        count, steps = film_progress(run_dir, path, overlay=overlay)
        assert steps == [200, 400, 600, 800, 1000]
        expected = []
        for at_step in steps:
            moments = list(played(watched(run_dir, at_step=at_step), episodes=1))
            cells = [round(float(moment.frame.mean()) / 40) for moment in moments]
            expected += cells + [cells[-1]] * round(10 * PAUSE_SECONDS)
        assert expected[-1] == 5  # the goal
        frames = decoded(path)
        assert len(frames) == count == len(expected)
        assert [round(float(frame[30:190, 20:200].mean()) / 40) for frame in frames] == expected

    def test_parts_that_are_cut_are_told_of(self, run_dir, tmp_path, monkeypatch):
        monkeypatch.setattr("rl_lab.evaluation.watch.FILMED_STEPS", 2)
        cut = []
        count, _ = film_progress(run_dir, tmp_path / "a.gif", on_cut=cut.append)
        assert cut == [2] * 5
        assert count == 5 * (3 + round(10 * PAUSE_SECONDS))

    def test_one_checkpoint_is_no_progress(self, tmp_path):
        learn(
            tmp_path / "run",
            "q-learning",
            "lab-test/Walk-v0",
            total_steps=20,
            keep_checkpoints=1,
            keep_best=0,
        )
        with pytest.raises(UsageError, match=r"has kept 1 checkpoint, which shows no progress"):
            film_progress(tmp_path / "run", tmp_path / "a.mp4")
        assert not (tmp_path / "a.mp4").exists()


def test_the_policy_s_figures_are_those_at_the_frame(run_dir):
    source = watched(run_dir)
    moments = list(played(source, episodes=1, inspecting=True))
    assert len(moments) == 6
    for cell, moment in enumerate(moments[:-1]):
        expected = source.policy.inspect(np.array([cell]), (), np.ones(1, bool))["q_values"][0]
        assert np.array_equal(moment.figures["q_values"], expected)
        assert moment.action == expected.argmax() == 1
        assert (moment.frame == 40 * cell).all()
        assert (moment.step, moment.return_, moment.terminated) == (cell, 0.0, False)
    last = moments[-1]
    assert (last.step, last.return_, last.action, last.figures, last.terminated) == (5, 1.0, None, {}, True)
