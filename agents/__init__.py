"""The lab's agents, one algorithm family per module or package: its paper, its Config, the agent, and `build`.

What they share (networks, updates, replay, the loop) lies in the packages below; they know nothing of each other.
"""
