"""Whole installations as files: compose for a few machines' worth of containers, KubeRay for a cluster."""
