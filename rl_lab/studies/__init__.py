"""Studies, which compare many runs: running them, reading their results, and the page that shows them.

What a single run does and writes is in `runs` and `training`.
"""
