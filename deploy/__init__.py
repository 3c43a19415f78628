"""Deploy: settings, the `hardcase` command, the local supervisor and the demo. It joins the other packages."""
