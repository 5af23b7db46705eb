"""Where the runs of a study are carried out: on this machine, or by a cluster.

It defines nothing itself: import its modules.
"""
