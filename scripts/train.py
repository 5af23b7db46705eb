"""Train one agent in a run directory."""

from rl_lab.cli import main, train

if __name__ == "__main__":
    main(train)
