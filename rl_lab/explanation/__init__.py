"""What is behind a decision, as plain numbers: values, names, the exact optimum, attention, saliency, attribution.

Nothing is drawn here but the saliency over a frame, no episode is played, and nothing is measured over episodes:
pictures and scores are in `evaluation`, what is missing to the optimum is in `diagnosis`.
"""
