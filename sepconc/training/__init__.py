"""Training: feeding, updating, scheduling, and what a checkpoint holds. Knows no estimator and no registry."""
