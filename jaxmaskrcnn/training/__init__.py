"""Training: the optimizer, the training step, evaluations, and the loop that combines them."""
