"""Say why a run's policy falls short. This is the same as `rl-lab diagnose`."""

from rl_lab.cli.diagnose import diagnose
from rl_lab.cli.parsing import main

if __name__ == "__main__":
    main(diagnose)
