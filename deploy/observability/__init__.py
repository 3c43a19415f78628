"""Files for Prometheus, Alertmanager and Grafana, generated from the tables of metrics."""
