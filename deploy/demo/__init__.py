"""The demo: a small CNN on scikit-learn's real handwritten digits, and what happens to it."""
