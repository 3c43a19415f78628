"""The Open Inference Protocol over gRPC: messages, their parser, the service, and the servers that offer it."""
