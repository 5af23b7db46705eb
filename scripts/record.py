"""Record a policy's transitions as a dataset. This is the same as `rl-lab record`."""

from rl_lab.cli.parsing import main
from rl_lab.cli.record import record

if __name__ == "__main__":
    main(record)
