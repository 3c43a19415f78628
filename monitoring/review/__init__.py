"""Review: what people decide about failure cases, on one queue for console, API and labelling tools."""
