"""What benchmark.py times, one family of work a file."""
