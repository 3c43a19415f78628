"""CVAT, through its REST API as the SDK of version 2.80 describes it. Not tried against a server."""
