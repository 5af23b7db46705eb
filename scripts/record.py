"""Record transitions of a policy as a dataset that agents learn from."""

from rl_lab.cli import main
from rl_lab.recording import record

if __name__ == "__main__":
    main(record)
