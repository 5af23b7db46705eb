"""Measuring and showing how good a policy is: seeded episodes, exact figures, statistics, pictures, videos.

Nothing here learns.
"""
