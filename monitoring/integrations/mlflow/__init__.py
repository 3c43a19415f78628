"""MLflow: runs of trainings and versions of models go out, versions that people register there come in."""
