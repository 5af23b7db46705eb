"""Why a trained agent falls short: its regret split into causes, its loss's own bias, and what its values are worth.

Runs are read, never changed; nothing here learns a policy to be used.
"""
