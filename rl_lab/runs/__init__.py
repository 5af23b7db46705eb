"""One run and its directory: what it is asked to do, what it writes, when something is due, and how it is shown.

What a policy is worth is measured in `evaluation`, and how agents learn lives in `training`; both lie above.
"""
