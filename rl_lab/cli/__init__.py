"""The commands: one module each, and the parsing that they share.

A command only parses, calls and prints; the work is done in the packages below this one.
"""
