"""`hardcase bench`: measures any Open Inference Protocol server, over HTTP or gRPC, closed loop or open loop."""
