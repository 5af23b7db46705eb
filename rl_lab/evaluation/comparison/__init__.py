"""Statistics of comparisons between agents: aggregates over tasks, intervals, tests, sample sizes.

Pure functions on numbers. Scores are one number for each run and task, larger is better: [runs], or [runs, tasks].
"""
