"""What waits in front of a model: order, fairness, and who is turned away when it is too much."""
