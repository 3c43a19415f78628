"""Tools that people already have: labelling tools, receivers of notifications. Everything leaves through `egress`."""
