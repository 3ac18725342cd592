"""The scikit-learn face: one class per kind of network, over a common base."""
