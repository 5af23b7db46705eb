"""Compare agents over seeds and write a page."""

from rl_lab.cli import compare, main

if __name__ == "__main__":
    main(compare)
