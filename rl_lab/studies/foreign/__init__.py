"""Runs that a study didn't carry out itself: read from where they are, shown beside its own, and kept with it.

It defines nothing itself: import its modules.
"""
