"""Watching an agent play: a session of episodes, the page that shows it live, films and past episodes.

What an agent's numbers mean is worked out in `explanation`; how well it plays is measured in `evaluation`.
"""
