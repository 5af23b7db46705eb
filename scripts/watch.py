"""Watch a trained agent: mp4, GIF or a live window."""

from rl_lab.cli import main, watch

if __name__ == "__main__":
    main(watch)
