"""The gate: is a candidate better than the champion, and nowhere worse? With the chance of each error stated."""
