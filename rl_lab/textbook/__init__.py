"""Figures of Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd edition, made from the lab's models.

Many independent runs of a learner are played at once, as arrays [K, ...]: what a figure shows is their mean. Each
figure has a function that computes its numbers and one that draws them.
http://incompleteideas.net/book/the-book-2nd.html
"""
