"""Looking around: a map of embeddings, selections made on it, two versions beside each other, requests to try."""
