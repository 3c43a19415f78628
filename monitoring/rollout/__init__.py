"""Roll-outs: from the shadow over canary steps to the champion, each step on evidence, and back by itself."""
