"""The process that compiles: it ends when it is told to, when its parent is gone, and says why it failed."""
