"""Pictures of environments for people, in pygame and numpy.

This package knows numbers, strings and arrays only, never an environment or a model. Environments import it, and
load the modules that need pygame only once something is drawn.
"""

import os

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # before any module here imports pygame
