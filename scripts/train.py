"""Train one agent in a run directory."""

from rl_lab.cli import train, main

if __name__ == "__main__":
    main(train)
