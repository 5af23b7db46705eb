"""Watch a trained agent: mp4, GIF or a live window."""

from rl_lab.cli.parsing import main
from rl_lab.cli.watch import watch

if __name__ == "__main__":
    main(watch)
