"""Examples and exercises of Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd edition, 2018.

Each is a finite MDP with an exact model. Other environments with known solutions are found in the package above.
http://incompleteideas.net/book/the-book-2nd.html
"""
