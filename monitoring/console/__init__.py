"""The console: server-rendered pages over the API's answers.

`pages` routes, `contexts` and `build` say what a page shows, `charts` draws, `templates` and `static` say how it looks.
Nothing comes from the network, nothing is inline.
"""
