"""Compare agents over seeds and write a page. This is the same as `rl-lab compare`."""

from rl_lab.cli.compare import compare
from rl_lab.cli.parsing import main

if __name__ == "__main__":
    main(compare)
