"""Serving: the data plane. Answers Open Inference Protocol requests from the versions that the traffic plan names."""
