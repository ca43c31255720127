"""Trained networks at work: accuracy on a data set, predictions for image files."""
