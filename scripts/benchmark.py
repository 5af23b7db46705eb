"""Time the lab beside a peer. This is the same as `rl-lab benchmark`."""

from rl_lab.cli.benchmark import benchmark
from rl_lab.cli.parsing import main

if __name__ == "__main__":
    main(benchmark)
