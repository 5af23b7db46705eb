"""What is taken out of config.json as a secret, what stays, and how a run gets it back."""

from __future__ import annotations

import pytest

from rl_lab.runs.config import RunConfig
from rl_lab.runs.scrubbing import REMOVED, holds_secret, scrub, secret_values, supplied, without_login
from rl_lab.types import UsageError

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_netrc(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


@pytest.mark.parametrize(
    "name",
    ["token", "api_key", "apikey", "auth_token", "password", "DB_PASSWORD", "secret", "client_secrets", "access_key",
     "credentials", "auth"],
)  # fmt: skip
def test_text_under_a_secrets_name_goes(name):
    assert scrub({"env": {name: "x"}}) == {"env": {name: REMOVED}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", 16),
        ("author", "Sutton"),
        ("map_name", "8x8"),
        ("key", "red"),
        ("keyboard", "azerty"),
        ("revision", KEY),
        ("dataset_sha256", KEY + "0" * 24),
        ("desc", ["SFFF", "FHFH"]),
        ("token", 3),
        ("path", "/data/wandb/0"),
        ("url", "https://example.com/a@b"),
        ("none", None),
    ],
)
def test_what_is_no_secret_stays(name, value):
    assert scrub({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"the key is {KEY}.", f"the key is {REMOVED}."),
        ("http://user:password@host:80/x", f"http://{REMOVED}@host:80/x"),
        ("use wandb_v1_abcdefghijklmnopqrstuvwxyz now", f"use {REMOVED} now"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123", REMOVED),
        ("hf_abcdefghijklmnopqrstuvwxyz", REMOVED),
        ("sk-abcdefghijklmnopqrstuvwxyz", REMOVED),
        ("AKIAABCDEFGHIJKLMNOP", REMOVED),
        ("Authorization: Bearer abcdefgh.ij", f"Authorization: Bearer {REMOVED}"),
        ("token=abc and password: def", f"token={REMOVED} and password: {REMOVED}"),
        ("a plain note on tokens, keys and 12 secrets", "a plain note on tokens, keys and 12 secrets"),
    ],
)
def test_texts_lose_what_looks_like_a_key(text, left):
    assert scrub(text, "wandb_notes") == left
    assert scrub(left, "wandb_notes") == left  # once more changes nothing


def test_values_of_secret_variables_go_wherever_they_stand(monkeypatch, no_netrc):
    monkeypatch.setenv("MY_SECRET", "correct-horse")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false-alarm")
    monkeypatch.setenv("SHORT_KEY", "dqn")
    monkeypatch.setenv("SECRET_FOLDER_KEY", "/home/someone")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:battery-staple@proxy:80")
    no_netrc.write_text("machine example.org login a password machine-word\n")
    found = set(secret_values())
    assert {"correct-horse", "battery-staple", "machine-word"} <= found
    assert not {"false-alarm", "dqn", "/home/someone"} & found
    note = "correct-horse battery-staple machine-word false-alarm dqn"
    assert scrub(note) == f"{REMOVED} {REMOVED} {REMOVED} false-alarm dqn"


def test_removed_env_kwargs_come_from_variables(monkeypatch):
    stored = scrub({"token": "abc", "size": 3, "server": "http://u:p@host", "deep": {"password": "x"}})
    with pytest.raises(UsageError, match=r"env_kwargs token '\[removed\]' was not stored.*RL_LAB_ENV_TOKEN"):
        supplied(stored)
    for name, value in {"TOKEN": "abc", "SERVER": "http://u:p@host", "PASSWORD": "x"}.items():
        monkeypatch.setenv(f"RL_LAB_ENV_{name}", value)
    wanted = {"token": "abc", "size": 3, "server": "http://u:p@host", "deep": {"password": "x"}}
    assert supplied(stored) == wanted
    config = RunConfig("CartPole-v1", env_kwargs=stored)
    assert config.env_arguments["env_kwargs"] == wanted


def test_removed_items_of_lists_come_from_variables_with_their_position(monkeypatch):
    given = {"servers": ["http://u:p@one", "http://two", ("a", "http://v:q@three")], "ports": [80, 81]}
    stored = scrub(given)
    assert stored["servers"] == [f"http://{REMOVED}@one", "http://two", ("a", f"http://{REMOVED}@three")]
    with pytest.raises(UsageError, match=r"env_kwargs servers_0 .*RL_LAB_ENV_SERVERS_0"):
        supplied(stored)
    monkeypatch.setenv("RL_LAB_ENV_SERVERS_0", "http://u:p@one")
    with pytest.raises(UsageError, match=r"env_kwargs servers_2_1 .*RL_LAB_ENV_SERVERS_2_1"):
        supplied(stored)
    monkeypatch.setenv("RL_LAB_ENV_SERVERS_2_1", "http://v:q@three")
    assert supplied(stored) == given


def test_a_url_loses_its_login_alone():
    assert without_login("https://user:secret@example.com/x?y=1") == "https://example.com/x?y=1"
    assert without_login("https://example.com") == "https://example.com"


def test_code_may_pass_on_tokens_but_not_hold_them(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "correct-horse")
    assert not holds_secret("login(token=args.token, password=input())  # key=value")
    for code in (f"KEY = '{KEY}'", "url = 'http://me:pw@host'", "x = 'correct-horse'", "hf_" + "a" * 30):
        assert holds_secret(code), code
