"""Record transitions of a policy as a dataset that agents learn from."""

from rl_lab.cli.parsing import main
from rl_lab.cli.record import record

if __name__ == "__main__":
    main(record)
