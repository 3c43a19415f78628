"""The monitor's JSON API: `app` puts it together, `routes` and `files` answer, `models` says what an answer looks like.

Errors are `{"error": text}`. Times are RFC 3339 in UTC. Lists page by key: rows that arrive meanwhile neither repeat
nor hide one.
"""
