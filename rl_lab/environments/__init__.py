"""How environments are made by name, wrapped, put into vectors without autoreset, and seeded episode by episode.

The lab's own environments live in `rl_lab.envs`, not here.
"""
