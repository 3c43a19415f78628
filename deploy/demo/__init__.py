"""The demo: a small CNN on scikit-learn's real handwritten digits, and a day in its life."""
