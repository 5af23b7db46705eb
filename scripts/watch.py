"""Show or film a trained agent. The same code as `rl-lab watch`."""

from rl_lab.cli.parsing import main
from rl_lab.cli.watch import watch

if __name__ == "__main__":
    main(watch)
