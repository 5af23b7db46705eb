"""Making environments by name, wrapping them, vectors without autoreset, and seeding episode by episode.

The lab's own environments live in `rl_lab.envs`, not here.
"""
