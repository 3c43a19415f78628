"""Jobs of the loop, each under a supervising process of its own: local programs, Ray, webhooks.

`deploy.jobs.folder` says what lies on disk, `deploy.jobs.supervise` tells the life of one, `deploy.jobs.local` is the
monitor's side: `monitoring.loop.contracts.Jobs`.
"""
