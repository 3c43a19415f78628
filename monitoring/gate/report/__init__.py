"""The gate's report for people: one HTML file that needs nothing from anywhere."""
