"""Objects in a bucket: what everything else knows of S3, a double in memory, retries with a budget."""
