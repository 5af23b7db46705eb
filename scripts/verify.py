"""Check on this machine that a killed run loses nothing. This is the same as `rl-lab verify`."""

from rl_lab.cli.parsing import main
from rl_lab.cli.verify import verify

if __name__ == "__main__":
    main(verify)
